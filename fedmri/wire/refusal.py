"""The words of a site that refuses: a code, and its people's reason where they tell it."""

from __future__ import annotations

from fedmri.errors import CODES

LONGEST_REASON = 200
"""Characters of a reason that travel; whoever reads it cuts it again."""
_BAR = " | "


def with_reason(public: str, reason: str) -> str:
    """Return what a site says of an error: its reason where there is one, and last its code."""
    return f"{_printable(reason)}{_BAR}{public}" if reason else public


def reason_of(text: str) -> str:
    """Return the reason in what a site said; empty where it told none."""
    return _printable(text.rpartition(_BAR)[0])


def code_said(text: str) -> str:
    """Return the code that ends what a site said; empty where there is none of fedmri."""
    last = text.split(" ")[-1]
    return last if last in CODES else ""


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:LONGEST_REASON]

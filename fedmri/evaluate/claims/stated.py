"""A number as a paper writes it: every value that rounds to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from fedmri.errors import UsageError

NUMBER = re.compile(r"(?P<sign>[-+]?)(?P<digits>\d+(?:\.(?P<decimals>\d+))?|\.(?P<bare>\d+))")
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
SLACK = 1e-9
"""A value on the very border of rounding counts as inside."""

Severity = Literal["impossible", "unlikely", "flag", "note"]


@dataclass(frozen=True)
class Stated:
    """A number and the values that it may stand for.

    Attributes:
        text: As it is written.
        value: The number; a share where it is one.
        low: Least value that rounds to it.
        high: Largest value that rounds to it.
    """

    text: str
    value: float
    low: float
    high: float

    def overlaps(self, low: float, high: float) -> bool:
        """Tell whether it may be a number between two ends."""
        return self.low <= high + SLACK and low <= self.high + SLACK


@dataclass(frozen=True)
class Finding:
    """What is wrong with a claim, or worth knowing of it.

    Attributes:
        claim: Name of the claim; empty for the methods.
        rule: Which rule found it.
        severity: ``impossible`` breaks arithmetic. ``unlikely`` needs an explanation. ``flag`` is a
            mistake of method. ``note`` is worth knowing.
        text: In plain words.
    """

    claim: str
    rule: str
    severity: Severity
    text: str


def unreadable(what: str, found: str, want: str) -> UsageError:
    """Return the error of a file of claims (U81)."""
    fix = "correct the file; the documentation of `fedmri lint-claims` has an example"
    return UsageError("U81", what, found=found, want=want, fix=fix)


def stated(key: str, text: str) -> Stated:
    """Return a plain number, such as a correlation.

    Raises:
        UsageError: It is none (U81).
    """
    match = NUMBER.fullmatch(text.replace(",", "").strip())
    if match is None:
        raise unreadable(f"number of {key}", repr(text), "a number, such as 0.97")
    value = float(match["sign"] + match["digits"])
    half = 0.5 * 10.0 ** -len(match["decimals"] or match["bare"] or "")
    return Stated(text.strip(), value, value - half, value + half)


def share(key: str, text: str) -> Stated:
    """Return a share: ``0.97``, ``97 %`` or ``97``; a number above 1 is percent.

    Raises:
        UsageError: It is none, or lies outside 0 to 100 % (U81).
    """
    plain = text.replace("%", "").strip()
    found = stated(key, plain)
    is_percent = "%" in text or abs(found.value) > 1
    factor = 0.01 if is_percent else 1.0
    value, low, high = (factor * end for end in (found.value, found.low, found.high))
    if not (-1 if key == "drop" else 0) <= value <= 1:  # a loss may be a gain
        raise unreadable(f"share of {key}", repr(text), "0 to 1, or 0 to 100 %")
    return Stated(text.strip(), value, low, min(high, 1.0))


def count(key: str, text: str) -> int:
    """Return a whole number: ``1296``, ``1,296``, ``143.7 M``.

    Raises:
        UsageError: It is none (U81).
    """
    match = re.fullmatch(r"([\d.,]+)\s*([kKmMgG]?)", text.strip())
    try:
        value = float(match[1].replace(",", "")) * UNITS[match[2].lower()] if match else -1.0
    except ValueError:
        value = -1.0
    if value < 0 or abs(value - round(value)) > 1e-6 * max(1.0, value):
        raise unreadable(f"count of {key}", repr(text), "a whole number, such as 1,296 or 6.9 M")
    return round(value)

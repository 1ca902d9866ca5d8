"""Text that may quote another party, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text in which no character clears, colours or moves anything on a screen."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )

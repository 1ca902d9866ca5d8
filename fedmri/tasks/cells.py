"""Cells of a table that say yes or no."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedmri.errors import require

PRESENT = ("1", "yes", "true", "present", "positive")
ABSENT = ("0", "no", "false", "absent", "negative")


@dataclass(frozen=True)
class Words:
    """What says yes and what says no, in small letters.

    Raises:
        ConfigError: A word says both, or none is given (C01).
    """

    present: tuple[str, ...]
    absent: tuple[str, ...]

    def __post_init__(self) -> None:
        both = set(self.present) & set(self.absent)
        require(bool(self.present), "target.present", self.present, "one word or more")
        require(bool(self.absent), "target.absent", self.absent, "one word or more")
        require(not both, "target.absent", self.absent, "words that target.present has not")

    def value(self, text: str) -> float | None:
        """Return 1, 0, or NaN where the cell says that it is not known; None for other words."""
        from fedmri.data.checks.target_values import is_missing

        word = text.strip().casefold()
        word = word.removesuffix(".0")  # a column of numbers with a gap is written so
        if word in self.present or word in self.absent:
            return float(word in self.present)
        return math.nan if is_missing(text) else None

    @property
    def shown(self) -> str:
        """All words, for a message."""
        return ", ".join((*self.present, *self.absent))

"""What a case of the corpus of bad inputs is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

World = Literal["bids", "images", "dicom"]
Spoil = Callable[[Path], None]
BAD = "xbad"
GOOD = ("g0", "g1", "g2", "g3")


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: What is wrong.
        world: Good data set that it is put into.
        spoil: Puts it there.
        code: What the preflight must say.
        outcome: Whether the bad scan is excluded, the finding is a warning about something that
            is no scan or may be used, or the whole data set is refused.
        n_good: Good scans that must survive.
    """

    name: str
    world: World
    spoil: Spoil
    code: str
    outcome: Literal["excluded", "warned", "refused"] = "excluded"
    n_good: int = 4


def void(_: object) -> None:
    """Drop what a writer returns."""

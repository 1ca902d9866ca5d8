"""Median: a few bad sites cannot move it far.

Yin, Chen, Ramchandran and Bartlett 2018, arXiv:1803.01498. The weights of sites do not enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claims
from fedmri.round import Weights
from fedmri.strategies.all_at_once import ROBUST_CLAIMS, AllAtOnce, middle
from fedmri.strategies.spool import Spool


@dataclass(frozen=True)
class Median(AllAtOnce):
    """Coordinate-wise median of the sites' models; of an even number the mean of the middle two."""

    claims: ClassVar[Claims] = ROBUST_CLAIMS
    source: ClassVar[str] = "Yin et al. 2018, arXiv:1803.01498"
    consent: ClassVar[str] = (
        "no few hospitals can move the model far; the server compares your update with the others'"
    )

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the medians."""
        spool.by_coordinate(lambda values: middle(values, (len(values) - 1) // 2), out)

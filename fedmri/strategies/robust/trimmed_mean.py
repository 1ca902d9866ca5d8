"""Trimmed mean: the extremes of each number are left out.

Yin, Chen, Ramchandran and Bartlett 2018, arXiv:1803.01498. The weights of sites do not enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claims
from fedmri.round import Weights
from fedmri.strategies.all_at_once import ROBUST_CLAIMS, WithOutliers, middle
from fedmri.strategies.spool import Spool


@dataclass(frozen=True)
class TrimmedMean(WithOutliers):
    """Coordinate-wise mean without the ``n_outliers`` largest and smallest values.

    Attributes:
        n_outliers: Bad sites that are put up with; 0 is the unweighted mean.
    """

    claims: ClassVar[Claims] = ROBUST_CLAIMS
    source: ClassVar[str] = "Yin et al. 2018, arXiv:1803.01498"
    consent: ClassVar[str] = (
        "no few hospitals can move the model far; the server compares your update with the others'"
    )

    @property
    def n_least(self) -> int:
        """Sites of which one is left."""
        return 2 * self.n_outliers + 1

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the trimmed means."""
        spool.by_coordinate(lambda values: middle(values, self.n_outliers), out)

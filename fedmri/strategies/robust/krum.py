"""Krum: the one model that is most like the others.

Blanchard, El Mhamdi, Guerraoui and Stainer 2017, Machine learning with adversaries. The weights of
sites do not enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fedmri.claims import Claims
from fedmri.round import Weights
from fedmri.strategies.all_at_once import ROBUST_CLAIMS, WithOutliers
from fedmri.strategies.spool import Spool


@dataclass(frozen=True)
class Krum(WithOutliers):
    """The one model that is nearest to its ``n - n_outliers - 2`` nearest others.

    Attributes:
        n_outliers: Bad sites that are put up with; it needs ``2 * n_outliers + 3`` sites, and five
            at least: of fewer, one hospital's model would be everybody's.
    """

    claims: ClassVar[Claims] = ROBUST_CLAIMS
    source: ClassVar[str] = "Blanchard et al. 2017, Machine learning with adversaries"
    consent: ClassVar[str] = (
        "no few hospitals can move the model far; the server compares your update with the others'"
    )

    @property
    def n_least(self) -> int:
        """Sites that it needs."""
        return max(5, 2 * self.n_outliers + 3)

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the chosen site's model."""
        n_sites = len(spool.weights)
        gram = spool.gram()
        squares = gram.diagonal()[:, None] + gram.diagonal()[None] - 2 * gram
        nearest = squares.sort(dim=1).values[:, 1 : n_sites - self.n_outliers - 1]
        chosen = torch.zeros(n_sites, dtype=torch.float64)
        chosen[nearest.sum(dim=1).argmin()] = 1.0
        spool.combination(chosen, out)

"""A ROC area over patients of many sites, from counts of binned scores alone.

Each site counts its positive and negative patients in bins that were agreed on beforehand. Only
counts leave the site, and counts of sites add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedmri.evaluate.arrays import Array, Flags, require_same_length, unfit
from fedmri.evaluate.estimate import LEVEL, Estimate
from fedmri.evaluate.proportions import newcombe


@dataclass(frozen=True)
class Counts:
    """Patients of a site by class and bin of their score.

    Attributes:
        positive: Shape ``(b,)``.
        negative: Shape ``(b,)``.
    """

    positive: Array
    negative: Array

    def plus(self, other: Counts) -> Counts:
        """Return the counts of two sites together."""
        if self.positive.shape != other.positive.shape:
            found = f"{len(self.positive)} and {len(other.positive)} bins"
            raise unfit("bins of two sites", found, "the same bins")
        return Counts(self.positive + other.positive, self.negative + other.negative)


def counted(score: Array, is_positive: Flags, edges: Array) -> Counts:
    """Count a site's patients.

    Args:
        score: Of each patient, shape ``(n,)``.
        is_positive: Shape ``(n,)``.
        edges: Inner borders of the bins, ascending, shape ``(b - 1,)``; the same at every site. A
            score on a border belongs to the bin above.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).
    """
    require_same_length(score=score, is_positive=is_positive)
    places, n = np.searchsorted(edges, score, side="right"), len(edges) + 1
    sides = (is_positive, ~is_positive)
    return Counts(*(np.bincount(places[side], minlength=n).astype(float) for side in sides))


def equal_edges(n_bins: int, low: float = 0.0, high: float = 1.0) -> Array:
    """Return the inner borders of bins of one width."""
    return np.linspace(low, high, n_bins + 1)[1:-1]


@dataclass(frozen=True)
class BinnedArea:
    """A ROC area from counts, and how far it may be from the one of the scores themselves.

    Attributes:
        value: Pairs in one bin count one half.
        error_bound: The area of the scores differs by this much at most, whatever they are.
        low: Lower end of the interval over patients, with the bound taken off.
        high: Upper end, with the bound added.
        n_patients: Of all sites.
    """

    value: float
    error_bound: float
    low: float
    high: float
    n_patients: int

    @property
    def estimate(self) -> Estimate:
        """The area with an interval that holds both kinds of doubt."""
        return Estimate(self.value, self.low, self.high, self.n_patients)


def federated_auc(sites: Sequence[Counts], *, level: float = LEVEL) -> BinnedArea:
    """Return the ROC area over the patients of all sites.

    A pair of patients in different bins is ordered as by the scores. A pair in one bin counts one
    half and may be 0 or 1. So the error is at most half of the share of such pairs.

    Args:
        sites: Counts of each site, in any order.
        level: Coverage aimed at.

    Raises:
        UsageError: Bins differ, or a class has no patient (U80).

    Source:
        Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747 (the area as a share of pairs);
        Newcombe 2006, doi:10.1002/sim.2324 (interval).
    """
    total = sites[0]
    for one in sites[1:]:
        total = total.plus(one)
    m, n = float(total.positive.sum()), float(total.negative.sum())
    if min(m, n) == 0:
        raise unfit("classes of a ROC area", "one class", "positive and negative patients")
    below = np.cumsum(total.negative) - total.negative
    shared = float(total.positive @ total.negative) / (m * n)
    value = float(total.positive @ below) / (m * n) + 0.5 * shared
    low = newcombe(max(0.0, value - shared / 2), (m, n), level=level)[0]
    high = newcombe(min(1.0, value + shared / 2), (m, n), level=level)[1]
    return BinnedArea(value, shared / 2, low, high, int(m + n))

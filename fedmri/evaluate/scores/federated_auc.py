"""A ROC area over patients of many sites, from counts of binned scores alone.

Each site counts its positive and negative patients in bins that were agreed on beforehand. Only
counts leave the site, and counts of sites add up. Bins of few patients can be merged, at each site
by itself: then a patient is known to lie in a range of bins, and the area in a range of values.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from scipy import special

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


def logit_edges(n_bins: int, most: float = 6.0) -> Array:
    """Return the inner borders of bins of probabilities, of one width in logits.

    Networks put most patients near 0 and 1, where bins of one width would hold all of them.

    Args:
        n_bins: How many bins; the first and the last hold all that is beyond.
        most: Logit of the last border; the first is its negative.
    """
    return np.asarray(special.expit(np.linspace(-most, most, n_bins - 1)))


@dataclass(frozen=True)
class Ranges:
    """Patients by class, and by the lowest and the highest bin in which their scores may lie.

    Attributes:
        positive_low: By lowest bin, shape ``(b,)``.
        positive_high: By highest bin, shape ``(b,)``.
        negative_low: Shape ``(b,)``.
        negative_high: Shape ``(b,)``.
    """

    positive_low: Array
    positive_high: Array
    negative_low: Array
    negative_high: Array

    def plus(self, other: Ranges) -> Ranges:
        """Return the counts of two sites together."""
        if self.positive_low.shape != other.positive_low.shape:
            found = f"{len(self.positive_low)} and {len(other.positive_low)} bins"
            raise unfit("bins of two sites", found, "the same bins")
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Ranges(*(own + others for own, others in pairs))


def merged(counts: Counts, n_least: int) -> Ranges:
    """Return a site's counts in ranges of bins that hold enough patients of a class each.

    From the lowest bin on, bins of a class are taken together until they hold ``n_least`` of its
    patients. A rest at the end joins the range before it. Positive and negative patients have
    ranges of their own, so no count that leaves is of fewer patients. A range ends at the bins of
    two of its patients, and nobody can say whose they are.

    Args:
        counts: Of a site.
        n_least: Patients of a range. A class that has fewer gives no count at all.

    Source:
        LeFevre et al. 2006, doi:10.1109/ICDE.2006.101 (k-anonymity by ranges of own width).
    """
    sides = (_merged(of_class, n_least) for of_class in (counts.positive, counts.negative))
    return Ranges(*(ends for side in sides for ends in side))


def _merged(counts: Array, n_least: int) -> tuple[Array, Array]:
    """Return the patients of a class by the lowest and by the highest bin of their range."""
    low, high = np.zeros_like(counts), np.zeros_like(counts)
    n_left = counts.sum()
    if n_left < n_least:
        return low, high
    inside: list[np.intp] = []
    for place in np.flatnonzero(counts):
        inside.append(place)
        n_inside = counts[inside].sum()
        rest = n_left - n_inside
        if rest == 0 or (n_inside >= n_least and rest >= n_least):
            low[inside[0]] = high[place] = n_inside
            inside, n_left = [], rest
    return low, high


@dataclass(frozen=True)
class BinnedArea:
    """A ROC area from counts, and how far it may be from the one of the scores themselves.

    Attributes:
        value: Pairs in one bin count one half.
        error_bound: The area of the scores differs by this much at most, whatever they are.
        low: Lower end of the interval over patients, with the bound taken off.
        high: Upper end, with the bound added.
        n_subjects: Of all sites.
    """

    value: float
    error_bound: float
    low: float
    high: float
    n_subjects: int

    @property
    def estimate(self) -> Estimate:
        """The area with an interval that holds both kinds of doubt."""
        return Estimate(self.value, self.low, self.high, self.n_subjects)


def federated_auc(sites: Sequence[Counts | Ranges], *, level: float = LEVEL) -> BinnedArea:
    """Return the ROC area over the patients of all sites.

    A pair of patients whose bins cannot be the same is ordered as by the scores. Any other pair
    counts one half and may be 0 or 1. So the error is at most half of the share of such pairs.

    Args:
        sites: Counts of each site, in any order; in bins, or in ranges of bins.
        level: Coverage aimed at.

    Raises:
        UsageError: Bins differ, or a class has no patient (U80).

    Source:
        Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747 (the area as a share of pairs);
        Newcombe 2006, doi:10.1002/sim.2324 (interval).
    """
    total = functools.reduce(Ranges.plus, map(_ranges_of, sites))
    m, n = float(total.positive_low.sum()), float(total.negative_low.sum())
    if min(m, n) == 0:
        raise unfit("classes of a ROC area", "one class", "positive and negative patients")
    won = float(total.positive_low @ _below(total.negative_high)) / (m * n)
    lost = float(total.negative_low @ _below(total.positive_high)) / (m * n)
    low = newcombe(max(0.0, won), (m, n), level=level)[0]
    high = newcombe(min(1.0, 1 - lost), (m, n), level=level)[1]
    return BinnedArea((won + 1 - lost) / 2, (1 - lost - won) / 2, low, high, int(m + n))


def _ranges_of(counts: Counts | Ranges) -> Ranges:
    """Return counts in bins as ranges of one bin."""
    if isinstance(counts, Ranges):
        return counts
    return Ranges(counts.positive, counts.positive, counts.negative, counts.negative)


def _below(counts: Array) -> Array:
    """Return how many lie in bins below each, shape ``(b,)``."""
    return np.asarray(np.cumsum(counts) - counts)

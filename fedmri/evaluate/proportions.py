"""Intervals of shares and of ROC areas that keep their coverage with few patients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from fedmri.evaluate.arrays import Array
from fedmri.evaluate.estimate import LEVEL, Estimate, quantile_of

NONE = 1e-9
"""Fewer hits than this are none: sums of weights are not exact."""


def clopper_pearson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the exact interval of a proportion; ``n`` may be a fraction.

    Source:
        Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    low, high = rate_bounds(np.array(share * n), np.array(n), (1 - level) / 2)
    return float(low), float(high)


def rate_bounds(hits: Array, n: Array, tail: float) -> tuple[Array, Array]:
    """Return exact bounds on rates, each wrong with a chance of ``tail`` at most.

    Args:
        hits: How often it happened, any shape; may be fractions.
        n: Of how many, of a shape that goes with it.
        tail: Chance that a rate is below the first, or above the second.

    Source:
        Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    some, rest = np.maximum(hits, NONE), np.maximum(n - hits, NONE)
    low = np.where(hits > NONE, special.betaincinv(some, n - hits + 1, tail), 0.0)
    high = np.where(n - hits > NONE, special.betaincinv(hits + 1, rest, 1 - tail), 1.0)
    return low, high


def mid_p(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the mid-P interval of a proportion, with equal tails; ``n`` may be a fraction.

    What was seen counts half in either tail, so it is not as wide as the exact interval and misses
    as often above as below: intervals of several classes can then be combined.

    Source:
        Lancaster 1961, doi:10.1080/01621459.1961.10482105; Agresti and Gottard 2007,
        doi:10.1016/j.csda.2007.01.015.
    """
    from scipy.optimize import brentq  # slow to import

    hits, tail = share * n, (1 - level) / 2

    def below(p: float) -> float:
        """Return the probability of fewer hits, and half of that of as many."""
        fewer = special.betaincc(hits, n - hits + 1, p) if hits > 1e-9 else 0.0
        at_most = special.betaincc(hits + 1, n - hits, p) if n - hits > 1e-9 else 1.0
        return float(0.5 * (fewer + at_most))

    low = brentq(lambda p: below(p) - (1 - tail), 0, 1) if hits > 1e-9 else 0.0
    high = brentq(lambda p: below(p) - tail, 0, 1) if n - hits > 1e-9 else 1.0
    return float(low), float(high)


def newcombe(
    area: float, sizes: tuple[float, float], sharing: float = 1.0, level: float = LEVEL
) -> tuple[float, float]:
    """Return the score interval of a ROC area.

    Args:
        area: Between 0 and 1.
        sizes: Positive and negative patients.
        sharing: Share of the variance that is left where several trainings are averaged.
        level: Coverage aimed at.

    Source:
        Newcombe 2006, doi:10.1002/sim.2324 (method 5); Hanley and McNeil 1982,
        doi:10.1148/radiology.143.1.7063747.
    """
    return newcombe_of_strata(area, [(1.0, *sizes)], sharing, level)


def newcombe_of_strata(
    area: float,
    strata: Sequence[tuple[float, float, float]],
    sharing: float = 1.0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Return the score interval of a weighted mean of ROC areas of independent strata.

    Args:
        area: The mean, between 0 and 1.
        strata: Weight, positive and negative patients of each; weights add up to 1.
        sharing: Share of the variance that is left where several trainings are averaged.
        level: Coverage aimed at.

    Source:
        Newcombe 2006, doi:10.1002/sim.2324 (method 5, here with the variances added up).
    """
    from scipy.optimize import brentq  # slow to import

    z2 = quantile_of(math.inf, level) ** 2

    def excess(theta: float) -> float:
        shape = (1 - theta) / (2 - theta) + theta / (1 + theta)
        spread = sum(share**2 * (1 + ((m + n) / 2 - 1) * shape) / (m * n) for share, m, n in strata)
        return (theta - area) ** 2 - z2 * sharing * theta * (1 - theta) * spread

    # At an area of 0 or 1 the excess has a second root there, which is not the bound.
    low = brentq(excess, 0.0, area - 1e-9) if area > 1e-9 else 0.0
    high = brentq(excess, area + 1e-9, 1.0) if area < 1 - 1e-9 else 1.0
    return float(low), float(high)


def share_of(n_hits: int, n: int, level: float = LEVEL) -> Estimate:
    """Return a share of patients with its exact interval; NaN where there is no patient.

    Source:
        Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    return Estimate(n_hits / n, *clopper_pearson(n_hits / n, n, level), n)


def mean_of_shares(hits: Sequence[int], sizes: Sequence[int], level: float = LEVEL) -> Estimate:
    """Return the unweighted mean of shares of several groups, by the limits of each.

    Args:
        hits: Patients of each group who are counted.
        sizes: All patients of each group.
        level: Coverage aimed at.

    Returns:
        NaN where a group has no patient.

    Source:
        Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    n_groups, n = len(sizes), sum(sizes)
    if min(sizes) == 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    shares = [hit / size for hit, size in zip(hits, sizes, strict=True)]
    ends = [mid_p(share, size, level) for share, size in zip(shares, sizes, strict=True)]
    below, above = (
        math.hypot(*(share - end[side] for share, end in zip(shares, ends, strict=True))) / n_groups
        for side in (0, 1)
    )
    value = sum(shares) / n_groups
    return Estimate(value, value - below, value + above, n)

"""Interval methods of metrics: each keeps its coverage with few patients, or says that it cannot.

Every method gets the parts of a metric, averaged over trainings, with the spread of each, and
returns the bounds over patients. What trainings add is put on top in one place,
``with_trainings``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import special

from fedmri.evaluate.proportions import clopper_pearson, mid_p, newcombe
from fedmri.reports.statistics.influence import Part
from fedmri.reports.statistics.spread import Spread, careful_quantile, quantile
from fedmri.reports.statistics.weighted import Array

NONE = (math.nan, math.nan)
LEAST_FOR_SHAPE = 10
"""Fewer patients do not show how squares, products and classes are distributed."""
LEAST_FOR_FAILURES = 5
"""Fewer patients cannot show that some fail."""
OUTLIER = 4.0
"""A failure of an error metric is an error of so many times the usual one."""
HEAVY_TAILS = 1.15
"""How much larger the variance of a correlation is than a few hundred patients show, where errors
have the tails of Student's t with 5 degrees of freedom; measured by
``benchmarks/statistics/coverage.py``."""


@dataclass(frozen=True)
class Evidence:
    """What an interval is made from.

    Attributes:
        parts: Averaged over trainings.
        spreads: Of each part; of one training each, see ``sharing``.
        sharing: Variance of the averaged part over the mean variance of the trainings' parts, at
            most 1: averaging several trainings leaves less variance than one has.
        correlations: Of the parts over patients, shape ``(k, k)``.
        n_subjects: How many there are.
    """

    parts: tuple[Part, ...]
    spreads: tuple[Spread, ...]
    sharing: tuple[float, ...]
    correlations: Array
    n_subjects: int


@dataclass(frozen=True)
class Bounds:
    """An interval over patients with the quantile that it was made with."""

    low: float
    high: float
    quantile: float


Method = Callable[[Evidence], Bounds]


def with_trainings(value: float, bounds: Bounds, spread: Spread) -> tuple[float, float]:
    """Widen an interval over patients by what the choice of trainings adds.

    Source:
        Zou and Donner 2008, doi:10.1002/sim.3095 (variances recovered from the limits).
    """
    if spread.trainings <= 0 or not math.isfinite(bounds.low):
        return bounds.low, bounds.high
    wide = quantile(spread.total_df)
    sides = [(value - bounds.low) / bounds.quantile, (bounds.high - value) / bounds.quantile]
    low, high = (wide * math.sqrt(side**2 + spread.trainings) for side in sides)
    return value - low, value + high


def _reach(n_subjects: int) -> int:
    """Return what the square of an unseen failure is divided by; t alone covers few patients."""
    return n_subjects * max(n_subjects, 30)


def bounded_mean(
    evidence: Evidence, *, low: float, high: float, failure: float, unseen: float
) -> Bounds:
    """Student's interval on the logit scale, guarded against a failure that was not seen.

    Few patients may hide that some fail (Dice 0). On that side the variance is what it would be
    with ``unseen`` of a failing patient beside them. This vanishes as patients grow in number.
    """
    (part,), (spread,) = evidence.parts, evidence.spreads
    share, n = (part.value - low) / (high - low), evidence.n_subjects
    if n < LEAST_FOR_FAILURES or spread.df <= 0 or spread.patients <= 0 or not 0 < share < 1:
        return Bounds(*NONE, math.nan)
    q, centre = careful_quantile(spread.df), math.log(share / (1 - share))
    slope = 1 / ((high - low) * share * (1 - share))
    hidden = unseen * (failure - part.value) ** 2 / _reach(n)
    sides = [spread.patients + hidden * (failure < part.value)]
    sides += [spread.patients + hidden * (failure > part.value)]
    ends = [
        centre + sign * q * slope * math.sqrt(v) for sign, v in zip((-1, 1), sides, strict=True)
    ]
    lower, upper = (low + (high - low) * float(special.expit(end)) for end in ends)
    return Bounds(lower, upper, q)


def student(evidence: Evidence) -> Bounds:
    """Student's interval of a number without limits."""
    (part,), (spread,) = evidence.parts, evidence.spreads
    if spread.df <= 0 or spread.patients <= 0:
        return Bounds(*NONE, math.nan)
    q = careful_quantile(spread.df)
    half = q * math.sqrt(spread.patients)
    return Bounds(part.value - half, part.value + half, q)


def scaled_t(value: float, spread: Spread, low: float, high: float) -> tuple[float, float]:
    """Return Student's interval on the scale that a range asks for: logit, log or none."""
    half = careful_quantile(spread.total_df) * math.sqrt(spread.total)
    if spread.df <= 0 or half <= 0 or not low < value < high:
        return NONE
    if math.isfinite(low) and math.isfinite(high):
        share = (value - low) / (high - low)
        centre, slope = math.log(share / (1 - share)), 1 / ((high - low) * share * (1 - share))
        ends = [centre - half * slope, centre + half * slope]
        lower, upper = (low + (high - low) * float(special.expit(end)) for end in ends)
        return lower, upper
    if math.isfinite(low):
        factor = math.exp(half / (value - low))
        return low + (value - low) / factor, low + (value - low) * factor
    if math.isfinite(high):
        factor = math.exp(half / (high - value))
        return high - (high - value) * factor, high - (high - value) / factor
    return value - half, value + half


def positive_mean(evidence: Evidence, *, unseen: float, failure: float | None = None) -> Bounds:
    """Student's interval on the log scale, guarded above against a failure that was not seen."""
    (part,), n = evidence.parts, evidence.n_subjects
    if n < LEAST_FOR_FAILURES or part.value <= 0:
        return Bounds(*NONE, math.nan)
    error = failure / part.value - 1 if failure is not None else OUTLIER - 1
    return _log_student(evidence, unseen * max(0.0, error) ** 2 / _reach(n))


def root_mean_square(evidence: Evidence, *, unseen: float) -> Bounds:
    """The interval of the root of a mean square; a root halves what is relative."""
    if evidence.n_subjects < LEAST_FOR_SHAPE:
        return Bounds(*NONE, math.nan)
    return _log_student(evidence, _hidden_squares(evidence.n_subjects, unseen) / 4)


def _hidden_squares(n_subjects: int, unseen: float) -> float:
    """Return the relative variance of a mean square that these patients do not show.

    Squares of errors have heavy tails. However many patients there are, the worst is not among
    them, so the share stays and does not vanish as patients grow in number.
    """
    return unseen * (OUTLIER**2 - 1) ** 2 / (n_subjects * 30)


def _log_student(evidence: Evidence, hidden: float) -> Bounds:
    """Return Student's interval on the log scale; ``hidden`` is a relative variance added above."""
    (part,), (spread,) = evidence.parts, evidence.spreads
    if spread.df <= 0 or spread.patients <= 0 or part.value <= 0:
        return Bounds(*NONE, math.nan)
    q, relative = careful_quantile(spread.df), spread.patients / part.value**2
    low, high = math.sqrt(relative), math.sqrt(relative + hidden)
    return Bounds(part.value * math.exp(-q * low), part.value * math.exp(q * high), q)


def explained_variance(evidence: Evidence, *, unseen: float) -> Bounds:
    """The interval of a mean square over the spread of the truth, as 1 minus it.

    Both are estimated from the same few patients, so the variance is that of three fewer.
    """
    (part,), (spread,), n = evidence.parts, evidence.spreads, evidence.n_subjects
    if n < LEAST_FOR_SHAPE:
        return Bounds(*NONE, math.nan)
    lost = replace(
        evidence,
        parts=(Part(1 - part.value, -part.influence, part.sizes),),
        spreads=(replace(spread, patients=spread.patients * n / (n - 3)),),
    )
    bounds = _log_student(lost, _hidden_squares(n, unseen))
    return Bounds(1 - bounds.high, 1 - bounds.low, bounds.quantile)


def fisher(evidence: Evidence) -> Bounds:
    """Fisher's z, with the larger of the normal variance and the one of these patients.

    Source:
        Fisher 1921, Metron 1, 3-32; Hawkins 1989, doi:10.1080/00031305.1989.10475661 (without
        normality).
    """
    (part,), (spread,), n = evidence.parts, evidence.spreads, evidence.n_subjects
    if n < LEAST_FOR_SHAPE or spread.df <= 0 or spread.patients <= 0 or abs(part.value) >= 1:
        return Bounds(*NONE, math.nan)
    seen = spread.patients * n / (n - 3) / (1 - part.value**2) ** 2
    q = careful_quantile(spread.df)
    half = q * math.sqrt(HEAVY_TAILS * max(seen, 1 / (n - 3)))
    centre = math.atanh(part.value)
    return Bounds(math.tanh(centre - half), math.tanh(centre + half), q)


def proportion(evidence: Evidence) -> Bounds:
    """The exact interval of a share of patients."""
    (part,), (sharing,) = evidence.parts, evidence.sharing
    if not part.sizes[0]:
        return Bounds(*NONE, math.nan)
    low, high = clopper_pearson(part.value, part.sizes[0] / sharing)
    return Bounds(low, high, quantile(math.inf))


def _recall_bounds(part: Part, sharing: float) -> tuple[float, float]:
    return mid_p(part.value, part.sizes[0] / sharing)


def _f1_bounds(part: Part, sharing: float) -> tuple[float, float]:
    """F1 is 2 J / (1 + J), where J is the share of hits among all that are or are called it."""
    hit = part.value / (2 - part.value)
    union = part.sizes[0] * (2 - part.value)
    low, high = (2 * end / (1 + end) for end in mid_p(hit, union / sharing))
    return low, high


def _area_bounds(part: Part, sharing: float) -> tuple[float, float]:
    positives, negatives = part.sizes
    return newcombe(part.value, (positives, negatives), sharing)


def _over_classes(
    evidence: Evidence, *, bounds_of: Callable[[Part, float], tuple[float, float]]
) -> Bounds:
    """Combine the intervals of classes to that of their mean; none where a class has no patient.

    Source:
        Zou and Donner 2008, doi:10.1002/sim.3095, with the correlation of the parts.
    """
    is_known = all(math.isfinite(part.value) and min(part.sizes) > 0 for part in evidence.parts)
    if not is_known or evidence.n_subjects < LEAST_FOR_SHAPE:
        return Bounds(*NONE, math.nan)
    pairs = zip(evidence.parts, evidence.sharing, strict=True)
    ends = np.array([bounds_of(part, sharing) for part, sharing in pairs])
    values = np.array([part.value for part in evidence.parts])
    below, above, k = values - ends[:, 0], ends[:, 1] - values, len(values)
    half = [math.sqrt(max(0.0, side @ evidence.correlations @ side)) / k for side in (below, above)]
    centre, wider = float(values.mean()), quantile(evidence.n_subjects - k) / quantile(math.inf)
    half = [wider * side for side in half]
    return Bounds(centre - half[0], centre + half[1], quantile(math.inf))


recall_mean: Method = partial(_over_classes, bounds_of=_recall_bounds)
f1_mean: Method = partial(_over_classes, bounds_of=_f1_bounds)
area_mean: Method = partial(_over_classes, bounds_of=_area_bounds)


def correlations_of(parts: Sequence[Part], *, independent: bool) -> Array:
    """Return the correlation of parts over patients; 1 where a part does not vary."""
    k = len(parts)
    if independent or k == 1:
        return np.eye(k)
    rows = np.stack([part.influence for part in parts])
    size = np.sqrt((rows**2).sum(axis=1))
    product = np.outer(size, size)
    found = np.ones((k, k))
    np.divide(rows @ rows.T, product, out=found, where=product > 1e-12)
    np.fill_diagonal(found, 1.0)
    return np.clip(found, -1, 1)

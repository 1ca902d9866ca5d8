"""Areas under ROC and precision-recall curves: DeLong, clustered by patient, bootstrapped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from fedmri.evaluate.arrays import Array, Flags, Labels, codes_of, require_same_length, unfit
from fedmri.evaluate.estimate import (
    LEVEL,
    Certainty,
    Estimate,
    interval,
    is_inside,
)
from fedmri.evaluate.proportions import newcombe

Method = Literal["newcombe", "delong"]


def placements_of(score: Array, is_positive: Flags) -> Array:
    """Return the share of the other class that each patient beats, ties as one half.

    A negative patient beats a positive one by a lower score. Shape ``(n,)``.

    Source:
        DeLong et al. 1988, doi:10.2307/2531595; Sun and Xu 2014, doi:10.1109/LSP.2014.2337313
        (mid-ranks).
    """
    from scipy.stats import rankdata  # slow to import

    n, m = len(score), int(is_positive.sum())
    everyone, own = rankdata(score), np.empty(n)
    own[is_positive] = rankdata(score[is_positive])
    own[~is_positive] = rankdata(score[~is_positive])
    beaten = everyone - own  # of the other class, ties as one half
    return np.asarray(np.where(is_positive, beaten / (n - m), 1 - beaten / m), dtype=np.float64)


@dataclass(frozen=True)
class Areas:
    """ROC areas of several models on the same patients, with DeLong's covariance.

    Attributes:
        values: Shape ``(k,)``.
        covariance: Shape ``(k, k)``.
        sizes: Positive and negative patients.
    """

    values: Array
    covariance: Array
    sizes: tuple[int, int]

    def wald(self, model: int = 0, level: float = LEVEL) -> Estimate:
        """Return an area with its symmetric interval."""
        return self._interval(model, Certainty(level=level))

    def logit(self, model: int = 0, level: float = LEVEL) -> Estimate:
        """Return an area with an interval that is symmetric as a logit."""
        return self._interval(model, Certainty("logit", level=level))

    def _interval(self, model: int, how: Certainty) -> Estimate:
        error = math.sqrt(self.covariance[model, model])
        return interval(float(self.values[model]), error, sum(self.sizes), how)

    def difference(self, first: int = 0, second: int = 1, level: float = LEVEL) -> Estimate:
        """Return the first area minus the second, with its paired interval."""
        value, error = self._difference(first, second)
        return interval(value, error, sum(self.sizes), Certainty(level=level))

    def p_value(self, first: int = 0, second: int = 1) -> float:
        """Return the two-sided p-value of two equal areas; NaN where nothing varies."""
        value, error = self._difference(first, second)
        return float(2 * special.ndtr(-abs(value) / error)) if error > 0 else math.nan

    def _difference(self, first: int, second: int) -> tuple[float, float]:
        cov = self.covariance
        variance = cov[first, first] + cov[second, second] - 2 * cov[first, second]
        value = float(self.values[first] - self.values[second])
        return value, math.sqrt(max(0.0, float(variance)))


def delong(scores: Sequence[Array] | Array, is_positive: Flags) -> Areas:
    """Return ROC areas of models on the same patients, with their covariance.

    One entry is one patient. Slices of one patient are not independent: see ``clustered_auc``.

    Args:
        scores: Of each model, shape ``(k, n)``; higher means more likely positive.
        is_positive: Shape ``(n,)``.

    Raises:
        UsageError: Lengths differ, or a class has no patient (U80).

    Source:
        DeLong et al. 1988, doi:10.2307/2531595.
    """
    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    require_same_length(scores=rows[0], is_positive=is_positive)
    n_positive = int(is_positive.sum())
    if n_positive in {0, len(is_positive)}:
        raise unfit("classes of a ROC area", "one class", "positive and negative patients")
    placed = np.stack([placements_of(row, is_positive) for row in rows])
    parts = [placed[:, is_positive], placed[:, ~is_positive]]
    covariance = sum(_covariance_of_mean(part) for part in parts)
    sizes = n_positive, len(is_positive) - n_positive
    return Areas(parts[0].mean(axis=1), np.asarray(covariance), sizes)


def _covariance_of_mean(rows: Array) -> Array:
    n = rows.shape[1]
    if n < 2:
        return np.full((len(rows), len(rows)), np.nan)
    return np.asarray(np.atleast_2d(np.cov(rows)) / n)


def auc(
    score: Array, is_positive: Flags, *, method: Method = "newcombe", level: float = LEVEL
) -> Estimate:
    """Return a ROC area with its interval.

    ``newcombe`` keeps its coverage with few patients and at areas of 0 and 1. ``delong`` knows the
    patients' own spread, and needs about twenty of each class.

    Args:
        score: Of each patient, shape ``(n,)``.
        is_positive: Shape ``(n,)``.
        method: How the interval is made.
        level: Coverage aimed at.

    Raises:
        UsageError: Lengths differ, or a class has no patient (U80).

    Source:
        Newcombe 2006, doi:10.1002/sim.2324; DeLong et al. 1988, doi:10.2307/2531595.
    """
    found = delong(score, is_positive)
    if method == "delong":
        return found.logit(level=level)
    value = float(found.values[0])
    return Estimate(value, *newcombe(value, found.sizes, level=level), len(score))


def clustered_auc(
    score: Array, is_positive: Flags, patients: Labels, *, level: float = LEVEL
) -> Estimate:
    """Return a ROC area over scans or slices, with an interval over patients.

    Args:
        score: Of each scan, shape ``(n,)``.
        is_positive: Of each scan, shape ``(n,)``; a patient may have scans of both classes.
        patients: Patient of each scan, shape ``(n,)``.
        level: Coverage aimed at.

    Raises:
        UsageError: Lengths differ, or a class has no scan (U80).

    Source:
        Obuchowski 1997, doi:10.2307/2533958.
    """
    require_same_length(score=score, is_positive=is_positive, patients=patients)
    value = float(delong(score, is_positive).values[0])
    shares = auc_influence(score, is_positive)
    _, code = codes_of(patients)
    by_patient = np.bincount(code, shares)
    n = len(by_patient)
    if n < 2:
        return Estimate(value, math.nan, math.nan, n)
    error = math.sqrt(float((by_patient**2).sum()) * n / (n - 1))
    return interval(value, error, n, Certainty("logit", n - 1.0, level))


def auc_influence(score: Array, is_positive: Flags) -> Array:
    """Return what each entry moves a ROC area by, shape ``(n,)``; the sum is 0."""
    placed = placements_of(score, is_positive)
    m, n = int(is_positive.sum()), len(score)
    return np.asarray((placed - placed[is_positive].mean()) / np.where(is_positive, m, n - m))


def weighted_auc(score: Array, is_positive: Flags, weights: Array) -> Array:
    """Return ROC areas under many weightings at once, in O(n) each; ties count one half.

    Args:
        score: Shape ``(n,)``.
        is_positive: Shape ``(n,)``.
        weights: Of each entry in each weighting, shape ``(b, n)``.

    Returns:
        Shape ``(b,)``; NaN where a weighting leaves a class empty.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf) > 0)
    ordered, flags = weights[:, order], is_positive[order]
    positive = np.add.reduceat(ordered * flags, starts, axis=1)
    negative = np.add.reduceat(ordered * ~flags, starts, axis=1)
    below = np.cumsum(negative, axis=1) - 0.5 * negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    areas = np.full(len(weights), np.nan)
    np.divide((positive * below).sum(axis=1), pairs, out=areas, where=pairs > 0)
    return areas


def pr_auc(score: Array, is_positive: Flags, *, level: float = LEVEL) -> Estimate:
    """Return the average precision with its interval; its chance level is the prevalence.

    Args:
        score: Of each patient, shape ``(n,)``.
        is_positive: Shape ``(n,)``.
        level: Coverage aimed at.

    Raises:
        UsageError: Lengths differ, or a class has no patient (U80).

    Source:
        Boyd et al. 2013, doi:10.1007/978-3-642-40994-3_29 (logit interval).
    """
    from sklearn.metrics import average_precision_score

    require_same_length(score=score, is_positive=is_positive)
    n_positive = int(is_positive.sum())
    if n_positive in {0, len(is_positive)}:
        raise unfit("classes of an average precision", "one class", "both classes")
    value = float(average_precision_score(is_positive, score))
    if not is_inside(value, "logit"):
        return Estimate(value, math.nan, math.nan, len(score))
    error = math.sqrt(value * (1 - value) / n_positive)
    return interval(value, error, len(score), Certainty("logit", n_positive - 1.0, level))


def error_of_auc(area: float, sizes: tuple[int, int]) -> float:
    """Return the standard error of a ROC area from its class sizes alone.

    Source:
        Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    m, n = sizes
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)
    return math.sqrt(max(0.0, spread) / (m * n))


def steady_area(score: Array, is_positive: Flags) -> tuple[float, float]:
    """Return a ROC area and its standard error that a hospital of few patients has too.

    DeLong's error needs two patients of each class, and is 0 at areas of 0 and 1. Here half a pair
    is added to both sides, and the error follows from the area and the sizes.

    Args:
        score: Of each patient, shape ``(n,)``.
        is_positive: Shape ``(n,)``.

    Raises:
        UsageError: Lengths differ, or a class has no patient (U80).

    Source:
        Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747 (error); Agresti and Coull 1998,
        doi:10.1080/00031305.1998.10480550 (what is added).
    """
    require_same_length(score=score, is_positive=is_positive)
    m, n = int(is_positive.sum()), int((~is_positive).sum())
    if min(m, n) == 0:
        raise unfit("classes of a ROC area", "one class", "positive and negative patients")
    wins = float(placements_of(score, is_positive)[is_positive].mean()) * m * n
    area = (wins + 0.5) / (m * n + 1)
    return area, error_of_auc(area, (m, n))

"""Two models on the same patients: tests, many comparisons at once, and margins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from fedmri.evaluate.arrays import Array, Flags, Labels, codes_of, require_same_length, unfit
from fedmri.evaluate.estimate import LEVEL, Certainty, Estimate, interval
from fedmri.evaluate.scores.ranking import delong


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for their number; those that are not defined stay out.

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if math.isfinite(p))
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = highest
    return tuple(adjusted)


@dataclass(frozen=True)
class Paired:
    """The first model minus the second, over the same patients.

    Attributes:
        difference: With its two-sided interval.
        error: Standard error.
        df: Degrees of freedom behind it.
        p_value: Two-sided, of no difference; NaN where it cannot be said.
    """

    difference: Estimate
    error: float
    df: float
    p_value: float

    def below(self, limit: float) -> float:
        """Return the one-sided p-value of a true difference of ``limit`` or less."""
        if not self.error > 0:
            return math.nan
        ratio = (self.difference.value - limit) / self.error
        return float(special.stdtr(self.df, -ratio))


def mean_over_seeds(scores: Array) -> Array:
    """Return each patient's mean over trainings: a training is no patient.

    Args:
        scores: Shape ``(n,)``, or ``(n_seeds, n)``.
    """
    return np.asarray(scores if scores.ndim == 1 else scores.mean(axis=0), dtype=np.float64)


def paired_means(
    first: Array, second: Array, *, sites: Labels | None = None, level: float = LEVEL
) -> Paired:
    """Compare two models by a score that each patient has, such as Dice or the size of an error.

    The interval is Student's over patients within their sites. The p-value is never below that of
    a sign test of the patients on whom the models differ.

    Args:
        first: Of each patient, shape ``(n,)``, or of each training and patient ``(n_seeds, n)``.
        second: Of the same patients.
        sites: Site of each patient: differences between sites do not widen the interval.
        level: Coverage aimed at.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Student 1908, doi:10.1093/biomet/6.1.1; Cochran 1977, Sampling Techniques, chapter 5.
    """
    gained = mean_over_seeds(first) - mean_over_seeds(second)
    n = require_same_length(first=mean_over_seeds(first), second=mean_over_seeds(second))
    strata = _strata(sites, n)
    counts = np.bincount(strata)
    means = np.bincount(strata, gained) / counts
    df = float(n - len(counts))
    squares = float(((gained - means[strata]) ** 2).sum())
    error = math.sqrt(squares / df / n) if df > 0 else math.nan
    found = interval(float(gained.mean()), error, n, Certainty(df=df, level=level))
    return Paired(found, error, df, _with_sign_test(found.value, error, df, gained))


def _strata(sites: Labels | None, n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """Return the stratum of each patient; sites with one patient are a stratum together."""
    if sites is None:
        return np.zeros(n, dtype=np.intp)
    _, code = codes_of(sites)
    is_single = np.bincount(code)[code] == 1
    if is_single.sum() == 1:
        return np.zeros(n, dtype=np.intp)
    return codes_of(np.where(is_single, -1, code))[1]


def _with_sign_test(value: float, error: float, df: float, gained: Array) -> float:
    n_differing = int((np.abs(gained) > 1e-12).sum())
    if not df > 0:
        return math.nan
    least = min(1.0, 2.0 ** (1 - n_differing))
    if not error > 0:
        return least if n_differing else 1.0
    return max(least, float(2 * special.stdtr(df, -abs(value) / error)))


def paired_areas(
    first: Array, second: Array, is_positive: Flags, *, level: float = LEVEL
) -> Paired:
    """Compare two models by their ROC areas: DeLong's variance with Student's t.

    With the normal quantile of ``delong(...).difference`` the interval is too narrow below about
    thirty patients.

    Args:
        first: Score of each patient, shape ``(n,)``.
        second: Of the same patients.
        is_positive: Shape ``(n,)``.
        level: Coverage aimed at.

    Raises:
        UsageError: Lengths differ, or a class has no patient (U80).

    Source:
        DeLong et al. 1988, doi:10.2307/2531595.
    """
    n = require_same_length(first=first, second=second, is_positive=is_positive)
    areas = delong([first, second], is_positive)
    cov = areas.covariance
    error = math.sqrt(max(0.0, float(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])))
    df, value = n - 2.0, float(areas.values[0] - areas.values[1])
    p = float(2 * special.stdtr(df, -abs(value) / error)) if error > 0 else math.nan
    return Paired(interval(value, error, n, Certainty(df=df, level=level)), error, df, p)


def mcnemar(is_first_right: Flags, is_second_right: Flags) -> float:
    """Return the exact two-sided p-value that two models are right equally often.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        McNemar 1947, doi:10.1007/BF02295996.
    """
    require_same_length(is_first_right=is_first_right, is_second_right=is_second_right)
    first = int((is_first_right & ~is_second_right).sum())
    second = int((~is_first_right & is_second_right).sum())
    if first + second == 0:
        return 1.0
    return float(stats.binomtest(first, first + second).pvalue)


def wilcoxon(first: Array, second: Array) -> float:
    """Return the two-sided p-value of Wilcoxon's signed ranks; 1 where nothing differs.

    Source:
        Wilcoxon 1945, doi:10.2307/3001968.
    """
    require_same_length(first=first, second=second)
    if not (first != second).any():
        return 1.0
    return float(stats.wilcoxon(first, second).pvalue)


Margin = Literal["non-inferior", "inferior", "inconclusive", "superior"]


@dataclass(frozen=True)
class NonInferiority:
    """Whether a model is not worse than another by more than a margin.

    Attributes:
        paired: New minus reference, so signed that higher is better.
        margin: Loss that is accepted; stated before the data were seen.
        p_value: One-sided, of a loss of the margin or more.
        verdict: ``superior`` is non-inferior too. "No significant difference" is not equal.
    """

    paired: Paired
    margin: float
    p_value: float
    verdict: Margin


def non_inferiority(
    paired: Paired, margin: float, *, is_higher_better: bool = True, alpha: float = 0.025
) -> NonInferiority:
    """Judge a new model against a reference by a margin that was stated beforehand.

    Args:
        paired: New minus reference: of ``paired_means`` or ``paired_areas``.
        margin: Largest loss that is accepted, above 0, in the unit of the metric: 0.02 of AUC.
        is_higher_better: Direction of the metric.
        alpha: One-sided error.

    Raises:
        UsageError: The margin is not above 0 (U80).

    Source:
        Piaggio et al. 2012, CONSORT, doi:10.1001/jama.2012.87802.
    """
    if not margin > 0:
        raise unfit("margin of non-inferiority", str(margin), "a number above 0")
    oriented = paired if is_higher_better else _turned(paired)
    p = oriented.below(-margin)
    if not math.isfinite(p):
        return NonInferiority(oriented, margin, math.nan, "inconclusive")
    verdict: Margin = "inconclusive"
    if oriented.below(0.0) < alpha:
        verdict = "superior"
    elif p < alpha:
        verdict = "non-inferior"
    elif _turned(oriented).below(margin) < alpha:
        verdict = "inferior"
    return NonInferiority(oriented, margin, p, verdict)


def _turned(paired: Paired) -> Paired:
    one = paired.difference
    turned = Estimate(-one.value, -one.high, -one.low, one.n_subjects)
    return Paired(turned, paired.error, paired.df, paired.p_value)

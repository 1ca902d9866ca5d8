"""Patients drawn again, or left out one by one: intervals of statistics without a formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fedmri.evaluate.arrays import Array, Indices, Labels, codes_of, require_same_length
from fedmri.evaluate.estimate import Certainty, Estimate, interval

Weighted = Callable[[Array], Array]
"""A statistic under weights of entries, shape ``(b, n)``, to values, shape ``(b,)``."""
AT_ONCE = 200_000
"""Numbers of a block of weights: more would not stay in a processor's cache."""


def drawn_weights(
    patients: Labels, strata: Labels, n_draws: int, rng: np.random.Generator
) -> Array:
    """Draw whole patients with replacement, each stratum its own number.

    Args:
        patients: Patient of each entry (scan, slice), shape ``(n,)``.
        strata: What must keep its number of patients, such as the site; shape ``(n,)``.
        n_draws: How often.
        rng: Draws the patients.

    Returns:
        How often each entry's patient was drawn, shape ``(n_draws, n)``.

    Raises:
        UsageError: Lengths differ (U80).

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 8,
        doi:10.1201/9780429246593; Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x
        (clusters).
    """
    require_same_length(patients=patients, strata=strata)
    _, code = codes_of(patients)
    _, first = np.unique(code, return_index=True)
    _, stratum = codes_of(strata)
    of_patient = stratum[first]
    counts = np.zeros((n_draws, len(first)))
    for one in np.unique(of_patient):
        own = np.flatnonzero(of_patient == one)
        share = np.full(len(own), 1 / len(own))
        counts[:, own] = rng.multinomial(len(own), share, size=n_draws)
    return np.asarray(counts[:, code])


def bootstrap(
    statistic: Weighted, weights: Array, n_subjects: int, how: Certainty | None = None
) -> Estimate:
    """Return a statistic with Student's interval by its spread over draws of patients.

    The plain percentiles of the draws are too narrow with few patients. The spread is therefore
    widened by ``n / (n - 1)`` and used with Student's t on a suitable scale.

    Args:
        statistic: Of weights of the entries.
        weights: Of ``drawn_weights``.
        n_subjects: Independent patients behind them.
        how: Scale, degrees of freedom and level.

    Source:
        Hesterberg 2015, doi:10.1080/00031305.2015.1089789 (narrowness with few patients).
    """
    how = how or Certainty(df=n_subjects - 1.0)
    value = float(statistic(np.ones((1, weights.shape[1])))[0])
    found = _over(statistic, weights)
    found = found[np.isfinite(found)]
    if len(found) < 0.95 * len(weights) or n_subjects < 2:
        return Estimate(value, math.nan, math.nan, n_subjects)
    error = float(found.std(ddof=1)) * math.sqrt(n_subjects / (n_subjects - 1))
    return interval(value, error, n_subjects, how)


def percentiles(statistic: Weighted, weights: Array, level: float) -> tuple[float, float]:
    """Return the percentile interval of a statistic over draws; draws without a value stay out."""
    found = _over(statistic, weights)
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _over(statistic: Weighted, weights: Array) -> Array:
    n_rows = max(1, AT_ONCE // weights.shape[1])
    blocks = [weights[i : i + n_rows] for i in range(0, len(weights), n_rows)]
    return np.concatenate([statistic(block) for block in blocks])


def jackknife(
    statistic: Callable[[Indices], float], patients: Labels, how: Certainty | None = None
) -> Estimate:
    """Return a statistic with Student's interval from leaving each patient out in turn.

    Args:
        statistic: Of the entries at some places.
        patients: Patient of each entry, shape ``(n,)``.
        how: Scale and level; its ``df`` is replaced by the patients minus one.

    Source:
        Tukey 1958, doi:10.1214/aoms/1177706647; Efron and Stein 1981, doi:10.1214/aos/1176345462.
    """
    how = how or Certainty()
    _, code = codes_of(patients)
    n = int(code.max()) + 1
    value = statistic(np.arange(len(code)))
    if n < 3:
        return Estimate(value, math.nan, math.nan, n)
    left = np.array([statistic(np.flatnonzero(code != one)) for one in range(n)])
    error = math.sqrt((n - 1) / n * float(((left - left.mean()) ** 2).sum()))
    return interval(value, error, n, Certainty(how.scale, n - 1.0, how.level))

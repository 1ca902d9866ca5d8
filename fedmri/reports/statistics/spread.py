"""The variance of a mean over patients within sites, and over trainings beside them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedmri.reports.statistics.weighted import Array

Strata = NDArray[np.intp]
_Stratum = tuple[str | None, float]
LEVEL = 0.95
"""Coverage that every interval aims at."""
BORROWED = 4.0
"""Patients whose weight the common variance has in that of a stratum, for degrees of freedom."""


@dataclass(frozen=True)
class Spread:
    """How far a number may be from what other patients and other trainings would give.

    Attributes:
        patients: Variance over patients of the mean over the trainings that there are.
        df: Degrees of freedom behind it; 0 where it cannot be estimated.
        trainings: What the choice of trainings adds to the variance; 0 with one training.
        n_trainings: How many there are.
    """

    patients: float
    df: float
    trainings: float
    n_trainings: int

    @property
    def total(self) -> float:
        """Variance over patients and trainings."""
        return self.patients + self.trainings

    @property
    def total_df(self) -> float:
        """Degrees of freedom of the sum (Satterthwaite 1946, doi:10.2307/3002019)."""
        parts = [(self.patients, self.df), (self.trainings, self.n_trainings - 1.0)]
        below = math.fsum(variance**2 / df for variance, df in parts if variance > 0 and df > 0)
        return self.total**2 / below if below > 0 else self.df


def quantile(df: float) -> float:
    """Return the two-sided quantile of Student's t; the normal one for infinite ``df``."""
    if math.isinf(df):
        return float(special.ndtri((1 + LEVEL) / 2))
    return float(special.stdtrit(df, (1 + LEVEL) / 2)) if df > 0 else math.nan


def careful(df: float) -> float:
    """Return by how much Student's quantile is widened where the spread is poorly known.

    Scores are skewed and sites differ in spread, so few degrees of freedom are fewer than counted;
    the size was set by simulation (``benchmarks/statistics/coverage.py``).
    """
    return 1 + 0.5 / (df + 3)


def careful_quantile(df: float) -> float:
    """Return Student's quantile, widened."""
    return quantile(df) * careful(df)


def pooled_strata(labels: Sequence[str], groups: Sequence[float] | None = None) -> Strata:
    """Return a stratum for each patient: the site, or one for all sites with a single patient.

    One patient has no spread, so single patients of several sites form a stratum together. A last
    single one joins the smallest other stratum: between-site differences then widen the interval.

    Args:
        labels: Site of each patient.
        groups: What must not be mixed, such as the class; single patients are pooled within it.

    Source:
        Cochran 1977, Sampling Techniques, section 5A.12 (collapsed strata).
    """
    return _pooled(tuple(labels), tuple(groups) if groups is not None else (0.0,) * len(labels))


@lru_cache(maxsize=64)
def _pooled(labels: tuple[str, ...], groups: tuple[float, ...]) -> Strata:
    keys = list(zip(labels, groups, strict=True))
    sizes = Counter(keys)
    merged: dict[_Stratum, _Stratum]
    merged = {key: key if n > 1 else (None, key[1]) for key, n in sizes.items()}
    totals: Counter[_Stratum] = Counter(merged[key] for key in keys)
    for key, n in list(totals.items()):
        others = [(size, str(k), k) for k, size in totals.items() if k != key and k[1] == key[1]]
        if n == 1 and others:
            target = min(others, key=lambda entry: entry[:2])[2]
            merged = {k: target if to == key else to for k, to in merged.items()}
    numbers = {key: i for i, key in enumerate(sorted(set(merged.values()), key=str))}
    return np.array([numbers[merged[key]] for key in keys], dtype=np.intp)


def spread_of(shares: Array, by_training: Array, strata: Strata) -> Spread:
    """Return the variance of a number that is, to first order, a sum of its patients' shares.

    Patients are independent within their stratum, whose size is fixed. Trainings are crossed with
    patients: all were tested on the same ones. What a patient and a training do together is in
    both variances. Taking it off once would be unbiased, but its error makes verdicts from few
    trainings too bold.

    Args:
        shares: What each patient moves the number by, shape ``(n_trainings, n)``.
        by_training: The number under each training, shape ``(n_trainings,)``.
        strata: Stratum of each patient, shape ``(n,)``.

    Source:
        Satterthwaite 1946, doi:10.2307/3002019; Roe and Metz 1997,
        doi:10.1016/S1076-6332(97)80161-X (readers crossed with patients).
    """
    n_trainings = len(shares)
    variance, df = _within(shares.mean(axis=0), strata)
    if n_trainings < 2:
        return Spread(variance, df, 0.0, n_trainings)
    between = float(by_training.var(ddof=1)) / n_trainings
    return Spread(variance, df, between, n_trainings)


def _within(shares: Array, strata: Strata) -> tuple[float, float]:
    """Return the variance of the sum and its degrees of freedom."""
    counts = np.bincount(strata).astype(float)
    means = np.bincount(strata, shares) / np.maximum(counts, 1)
    scale = np.sqrt(counts / np.maximum(counts - 1, 1))[strata]
    centred = (shares - means[strata]) * scale
    squares = np.bincount(strata, centred**2)  # n_h times the unbiased variance of stratum h
    variance = float(squares.sum())
    free = counts[counts > 1] - 1
    if variance <= 1e-24 or not len(free):
        return 0.0, float(free.sum())
    return variance, _satterthwaite(squares[counts > 1] / (free + 1), free)


def _satterthwaite(variances: Array, free: Array) -> float:
    """Return the degrees of freedom of a sum over strata.

    A stratum of two or three says next to nothing of its own variance: each is drawn towards the
    common one, as if it held ``BORROWED`` patients more.
    """
    common = (free * variances).sum() / free.sum()
    drawn = (free * variances + BORROWED * common) / (free + BORROWED)
    weighted = (free + 1) * drawn
    return float(weighted.sum() ** 2 / (weighted**2 / free).sum())


def t_bounds(value: float, spread: Spread) -> tuple[float, float]:
    """Return Student's interval."""
    half = careful_quantile(spread.total_df) * math.sqrt(spread.total)
    return value - half, value + half


def p_value(value: float, spread: Spread) -> float:
    """Return the two-sided p-value of a true value of zero."""
    if spread.total <= 0 or spread.df <= 0:
        return math.nan
    ratio = abs(value) / math.sqrt(spread.total) / careful(spread.total_df)
    return float(2 * special.stdtr(spread.total_df, -ratio))

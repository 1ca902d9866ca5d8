"""Predicted numbers against true ones, and the bias of predicted ages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fedmri.evaluate.arrays import Array, Indices, Labels, require_same_length
from fedmri.evaluate.estimate import (
    LEVEL,
    Certainty,
    Estimate,
    interval,
    mean_interval,
)
from fedmri.evaluate.resampling import jackknife

HEAVY_TAILS = 1.15
"""How much larger the variance of a correlation is with tails of Student's t of 5 degrees."""


@dataclass(frozen=True)
class Values:
    """Scores of predicted numbers.

    Attributes:
        mae: Mean absolute error, in the target's unit.
        r: Pearson's correlation.
        r2: 1 - SSE / SST; never above the square of ``r``.
        concordance: Lin's correlation, which also asks for the same scale and place.
        bias: Mean of predicted minus true.
    """

    mae: Estimate
    r: Estimate
    r2: Estimate
    concordance: Estimate
    bias: Estimate


def values_of(truth: Array, predicted: Array, *, level: float = LEVEL) -> Values:
    """Return the scores of predicted numbers, one independent patient an entry.

    Args:
        truth: Shape ``(n,)``.
        predicted: Shape ``(n,)``, same unit.
        level: Coverage aimed at.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Lin 1989, doi:10.2307/2532051 (concordance); Fisher 1921, Metron 1, 3-32 (r);
        Tukey 1958, doi:10.1214/aoms/1177706647 (jackknife of R2 and concordance).
    """
    n = require_same_length(truth=truth, predicted=predicted)
    errors = predicted - truth
    patients = np.arange(n)
    return Values(
        mae=mean_interval(np.abs(errors), Certainty("log", level=level)),
        r=_correlation(truth, predicted, level),
        r2=_explained(truth, predicted, patients, level),
        concordance=jackknife(
            lambda own: concordance(truth[own], predicted[own]),
            patients,
            Certainty("fisher", level=level),
        ),
        bias=mean_interval(errors, Certainty(level=level)),
    )


def concordance(truth: Array, predicted: Array) -> float:
    """Return Lin's concordance correlation; NaN where neither varies.

    Source:
        Lin 1989, doi:10.2307/2532051.
    """
    spread = float(truth.var() + predicted.var() + (truth.mean() - predicted.mean()) ** 2)
    shared = float(((truth - truth.mean()) * (predicted - predicted.mean())).mean())
    return 2 * shared / spread if spread > 0 else math.nan


def _correlation(truth: Array, predicted: Array, level: float) -> Estimate:
    n = len(truth)
    if n < 4 or min(float(np.ptp(truth)), float(np.ptp(predicted))) == 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    r = float(stats.pearsonr(truth, predicted).statistic)
    error = math.sqrt(HEAVY_TAILS / (n - 3)) * (1 - r * r)
    return interval(r, error, n, Certainty("fisher", level=level))


def r2_of(truth: Array, predicted: Array) -> float:
    """Return 1 - SSE / SST around the mean of these patients; NaN where the truth is constant.

    Source:
        Kvalseth 1985, doi:10.1080/00031305.1985.10479448.
    """
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((predicted - truth) ** 2).sum()) / total if total > 0 else math.nan


def _explained(truth: Array, predicted: Array, patients: Labels, level: float) -> Estimate:
    """Return R2 by the jackknife of its unexplained share, which is positive, on the log scale."""

    def unexplained(own: Indices) -> float:
        return 1 - r2_of(truth[own], predicted[own])

    lost = jackknife(unexplained, patients, Certainty("log", level=level))
    return Estimate(1 - lost.value, 1 - lost.high, 1 - lost.low, lost.n_subjects)


@dataclass(frozen=True)
class AgeBias:
    """The straight line by which predicted ages lean towards the mean age of training.

    Attributes:
        intercept: Of predicted minus true age, in years, at age 0.
        slope: What it changes by for each year of age.
    """

    intercept: float
    slope: float

    def gap(self, age: Array, predicted: Array) -> Array:
        """Return predicted minus true age without what age alone explains (brain age gap).

        It uses the true age, so it is for comparing patients. It is no error of a prediction, and
        MAE or R2 from it would be too good.
        """
        return np.asarray(predicted - age - (self.intercept + self.slope * age))

    def corrected(self, predicted: Array) -> Array:
        """Return predicted ages without the lean, from the prediction alone."""
        return np.asarray((predicted - self.intercept) / (1 + self.slope))


def fit_age_bias(age: Array, predicted: Array) -> AgeBias:
    """Fit the age bias on training patients; test patients must not take part.

    Args:
        age: True ages of training patients, shape ``(n,)``.
        predicted: Their predicted ages from models that did not see them, shape ``(n,)``.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Smith et al. 2019, doi:10.1016/j.neuroimage.2019.06.017; de Lange and Cole 2020,
        doi:10.1016/j.nicl.2020.102229; Butler et al. 2021, doi:10.1002/hbm.25533 (what not to do).
    """
    require_same_length(age=age, predicted=predicted)
    line = stats.linregress(age, predicted - age)
    return AgeBias(float(line.intercept), float(line.slope))

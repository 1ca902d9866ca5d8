"""What a new hospital may see: a prediction interval with a prior on the spread of hospitals.

Few hospitals do not tell how much hospitals differ. Other studies do: the prior is what the spread
was in them. The interval is for the true score of one hospital that is like the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special, stats

from fedmri.evaluate.arrays import Array
from fedmri.evaluate.estimate import LEVEL, Scale, back, onto
from fedmri.evaluate.hospitals.random_effects import (
    OnScale,
    RandomEffects,
    on_scale,
    random_effects,
)

N_GRID = 400


@dataclass(frozen=True)
class SpreadPrior:
    """What is believed of the standard deviation between hospitals before any is seen.

    Attributes:
        kind: ``lognormal`` with a mean and a standard deviation, or ``half-normal`` with a scale.
        centre: Mean of a log-normal, scale of a half-normal.
        deviation: Standard deviation of a log-normal.
        is_of_metric: Whether it is in units of the metric, and not of the scale of the interval.
        source: Where the numbers come from.
    """

    kind: Literal["lognormal", "half-normal"]
    centre: float
    deviation: float
    is_of_metric: bool
    source: str

    def density(self, tau: Array, unit: float) -> Array:
        """Return its density at spreads on the scale; ``unit`` is one of the metric there."""
        stretch = unit if self.is_of_metric else 1.0
        if self.kind == "half-normal":
            return np.asarray(stats.halfnorm.pdf(tau, scale=self.centre * stretch))
        width = math.sqrt(math.log1p((self.deviation / self.centre) ** 2))
        median = self.centre * stretch / math.exp(width**2 / 2)
        return np.asarray(stats.lognorm.pdf(tau, width, scale=median))


OF_AUC = SpreadPrior(
    "lognormal", 0.055, 0.015, is_of_metric=True,
    source="469 models, 1,603 validations: van Leeuwen et al. 2025, doi:10.1002/sim.70011",
)  # fmt: skip
WEAK = SpreadPrior(
    "half-normal", 0.5, 0.0, is_of_metric=False,
    source="weak prior on logit and log scales: Roever et al. 2021, doi:10.1002/jrsm.1475",
)  # fmt: skip


def prior_for(metric: str, scale: Scale) -> SpreadPrior | None:
    """Return the prior of a metric: the one of many studies for AUC, a weak one for others.

    A number without limits has a unit that no prior knows: None.
    """
    if scale == "identity":
        return None
    return OF_AUC if metric == "auc" or metric.startswith("auc_") else WEAK


@dataclass(frozen=True)
class NewHospital:
    """What is expected at a hospital that is like the others but is not among them.

    Attributes:
        mean: Mean over hospitals.
        mean_low: Of its interval.
        mean_high: Of its interval.
        low: Of the prediction interval: the true score at a new hospital.
        high: Of the same.
        spread: Standard deviation between hospitals on the scale, posterior median.
        n_sites: Hospitals behind it.
        scale: On which they were combined.
        prior: What was believed of the spread.
        frequentist: The same without a prior.
        level: Coverage aimed at.
    """

    mean: float
    mean_low: float
    mean_high: float
    low: float
    high: float
    spread: float
    n_sites: int
    scale: Scale
    prior: SpreadPrior | None
    frequentist: RandomEffects
    level: float


@dataclass(frozen=True)
class _Posterior:
    """Spreads on a grid with their weights, and the mean over hospitals under each."""

    tau: Array
    weight: Array
    mean: Array
    variance: Array


def new_hospital(
    values: Sequence[float],
    errors: Sequence[float],
    *,
    scale: Scale = "logit",
    prior: SpreadPrior | None = WEAK,
    level: float = LEVEL,
) -> NewHospital | None:
    """Predict the score at a new hospital from hospitals that took no part in training.

    Args:
        values: One a left-out hospital, each of a model that was trained without it.
        errors: Standard error of each, over its patients.
        scale: ``logit`` for AUC and Dice, ``log`` for errors such as MAE.
        prior: On the spread between hospitals: ``OF_AUC`` for ROC areas, ``WEAK`` for others. None
            takes the frequentist interval, which is too narrow with few hospitals.
        level: Coverage aimed at.

    Returns:
        None below three hospitals, and where a value or error cannot be put on the scale.

    Raises:
        UsageError: Lengths differ, or there is no hospital (U80).

    Source:
        van Leeuwen et al. 2025, doi:10.1002/sim.70011 (empirical prior); Higgins et al. 2009,
        doi:10.1111/j.1467-985X.2008.00552.x (predictive distribution); Roever 2020,
        doi:10.18637/jss.v093.i06 (integration over the spread).
    """
    found = on_scale(values, errors, scale)
    if found is None:
        return None
    plain = random_effects(found, level=level)
    if prior is None:
        ends = (plain.mean, plain.low, plain.high, plain.new_low, plain.new_high)
        return _new_hospital(ends, math.sqrt(plain.tau2), plain, (scale, None, level))
    unit = onto(plain.mean, 1.0, scale)[1]
    posterior = _posterior(found, prior, unit)
    quantiles = [
        _quantile(posterior, posterior.variance + extra, p)
        for extra in (np.zeros(N_GRID), posterior.tau**2)
        for p in ((1 - level) / 2, (1 + level) / 2)
    ]
    spread = float(np.interp(0.5, np.cumsum(posterior.weight), posterior.tau))
    mean = float(posterior.weight @ posterior.mean)
    back_again = tuple(back(one, scale) for one in (mean, *quantiles))
    return _new_hospital(back_again, spread, plain, (scale, prior, level))


def _new_hospital(
    ends: Sequence[float],
    spread: float,
    plain: RandomEffects,
    how: tuple[Scale, SpreadPrior | None, float],
) -> NewHospital:
    mean, mean_low, mean_high, low, high = ends
    scale, prior, level = how
    return NewHospital(
        mean, mean_low, mean_high, low, high, spread, plain.n_hospitals, scale, prior, plain, level
    )


def _posterior(found: OnScale, prior: SpreadPrior, unit: float) -> _Posterior:
    top = 6 * max(float(found.y.std(ddof=1)), float(np.sqrt(found.variance.max())), prior.centre)
    top = max(top, 6 * prior.centre * unit) if prior.is_of_metric else top
    tau = np.geomspace(top * 1e-4, top, N_GRID)
    weights = 1 / (found.variance + tau[:, None] ** 2)
    total = weights.sum(axis=1)
    mean = (weights @ found.y) / total
    misfit = (weights * (found.y - mean[:, None]) ** 2).sum(axis=1)
    log_likelihood = 0.5 * (np.log(weights).sum(axis=1) - np.log(total) - misfit)
    with np.errstate(divide="ignore"):  # a density of 0 is a weight of 0
        log_weight = log_likelihood + np.log(prior.density(tau, unit)) + np.log(tau)
    weight = special.softmax(log_weight)
    return _Posterior(tau, weight, mean, 1 / total)


def _quantile(posterior: _Posterior, variance: Array, p: float) -> float:
    """Return a quantile of normals mixed over spreads."""
    error = np.sqrt(variance)

    def excess(x: float) -> float:
        return float(posterior.weight @ special.ndtr((x - posterior.mean) / error)) - p

    reach = 12 * float(error.max())
    low, high = float(posterior.mean.min()) - reach, float(posterior.mean.max()) + reach
    return float(optimize.brentq(excess, low, high, xtol=1e-10))

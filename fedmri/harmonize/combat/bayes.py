"""Empirical Bayes at one site: what a feature says is weighed against what all its features say.

All of it needs only how many values a feature has, their mean and their squares about it.

Source:
    Johnson, Li and Rabinovic 2007, doi:10.1093/biostatistics/kxj037, with the stop rule of
    neuroCombat 0.2.12, so that results agree to the last digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.harmonize.combat.site_table import N_CELLS, Array

MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class StandardizedMoments:
    """Standardized values of a site, shapes ``(p,)``: count, mean, squares about it."""

    n: Array
    mean: Array
    squares: Array

    @property
    def variance(self) -> Array:
        """With ``n - 1``; 1 where the values do not vary, as there is then nothing to scale."""
        variance = self.squares / np.maximum(1, self.n - 1)
        return np.where(variance > 1e-20, variance, 1.0)

    def at(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> StandardizedMoments:
        """Return the moments of some features."""
        return StandardizedMoments(self.n[chosen], self.mean[chosen], self.squares[chosen])


@dataclass(frozen=True)
class Prior:
    """What the features of a site have in common, estimated by moments over features.

    Attributes:
        mean: Of the shifts.
        variance: Of the shifts.
        shape: Of the inverse gamma distribution of the variances; infinite where they are equal.
        rate: Of the same; per unit of shape where shape is infinite.
    """

    mean: float
    variance: float
    shape: float
    rate: float


def prior(moments: StandardizedMoments) -> Prior:
    """Return the prior of two or more features."""
    shifts, variances = moments.mean, moments.variance
    m, s2 = float(variances.mean()), float(variances.var(ddof=1))
    found = float(shifts.mean()), float(shifts.var(ddof=1))
    if s2 <= 1e-24 * m * m:
        return Prior(*found, shape=np.inf, rate=m)
    return Prior(*found, shape=(2 * s2 + m * m) / s2, rate=(m * s2 + m**3) / s2)


def shrunken_means(moments: StandardizedMoments, common: Prior) -> Array:
    """Return the shifts where the spread is left alone.

    The reference weighs a site's mean as if it were one value, whatever their number; so does this.
    """
    shrunken: Array = (common.variance * moments.mean + common.mean) / (common.variance + 1)
    return shrunken


def parametric(
    moments: StandardizedMoments, common: Prior, tolerance: float
) -> tuple[Array, Array]:
    """Return posterior shifts and variances of all features, iterated together.

    The share by which a shift moved is taken with the shift's own sign, as the reference does:
    negative shifts never delay the end.
    """
    n, hat = moments.n, moments.mean
    shift, variance = hat, moments.variance
    for _ in range(MAX_ITERATIONS):
        weight = n * common.variance
        new_shift = (weight * hat + variance * common.mean) / (weight + variance)
        new_variance = _variance(moments, new_shift, common)
        moved = max(_moved(shift, new_shift), _moved(variance, new_variance))
        shift, variance = new_shift, new_variance
        if moved <= tolerance:
            break
    return shift, variance


def nonparametric(moments: StandardizedMoments) -> tuple[Array, Array]:
    """Return shifts and variances averaged over all other features, weighed by their likelihood.

    Weights are summed as logarithms: with a thousand subjects a likelihood is below the smallest
    number. Time grows with the square of the number of features, memory does not.
    """
    n_features = len(moments.mean)
    found = np.empty((2, n_features))
    width = max(1, N_CELLS // n_features)
    for start in range(0, n_features, width):
        chosen = np.arange(start, min(n_features, start + width))
        found[:, chosen] = _averaged(moments, chosen)
    return found[0], found[1]


def _averaged(moments: StandardizedMoments, chosen: NDArray[np.intp]) -> Array:
    own = moments.at(chosen)
    variance = moments.variance
    distance = own.squares[:, None] + own.n[:, None] * (own.mean[:, None] - moments.mean) ** 2
    logs = -0.5 * (own.n[:, None] * np.log(2 * np.pi * variance) + distance / variance)
    logs[np.arange(len(chosen)), chosen] = -np.inf  # a feature does not judge itself
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.stack([weights @ moments.mean, weights @ variance])


def _variance(moments: StandardizedMoments, shift: Array, common: Prior) -> Array:
    if not np.isfinite(common.shape):
        return np.full_like(shift, common.rate)
    squares = moments.squares + moments.n * (moments.mean - shift) ** 2
    variance: Array = (common.rate + squares / 2) / (moments.n / 2 + common.shape - 1)
    return variance


def _moved(old: Array, new: Array) -> float:
    difference = np.abs(new - old)
    share = np.divide(difference, old, out=np.zeros_like(old), where=old != 0)
    return float(np.where((old == 0) & (difference > 0), np.inf, share).max())

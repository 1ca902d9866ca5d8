"""Scores of hospitals combined, with the spread between hospitals (random effects)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedmri.evaluate.arrays import Array, require_same_length
from fedmri.evaluate.estimate import LEVEL, Scale, back, is_inside, onto, quantile_of

LEAST_HOSPITALS = 3
"""With fewer, their spread is known from one difference."""


@dataclass(frozen=True)
class OnScale:
    """Scores of hospitals on the scale on which they are combined.

    Attributes:
        y: Scores, shape ``(k,)``.
        variance: Of each, over its patients, shape ``(k,)``.
        scale: Which scale.
    """

    y: Array
    variance: Array
    scale: Scale

    @property
    def n(self) -> int:
        """Number of hospitals."""
        return len(self.y)


def on_scale(values: Sequence[float], errors: Sequence[float], scale: Scale) -> OnScale | None:
    """Put scores on a scale; None below three hospitals, or where one cannot be put there.

    Args:
        values: One a hospital.
        errors: Standard error of each.
        scale: ``logit`` for AUC and Dice, ``log`` for errors.

    Raises:
        UsageError: Lengths differ, or there is no hospital (U80).
    """
    require_same_length(values=values, errors=errors)
    is_usable = all(
        is_inside(value, scale) and math.isfinite(error) and error > 0
        for value, error in zip(values, errors, strict=True)
    )
    if len(values) < LEAST_HOSPITALS or not is_usable:
        return None
    pairs = [onto(float(v), float(e), scale) for v, e in zip(values, errors, strict=True)]
    y, error = np.array(pairs).T
    return OnScale(y, error**2, scale)


@dataclass(frozen=True)
class RandomEffects:
    """The mean over hospitals by the usual frequentist formulas.

    Attributes:
        mean: On the metric's own scale.
        low: Of the interval of the mean (Hartung, Knapp, Sidik and Jonkman).
        high: Of the same.
        new_low: Of the prediction interval of a new hospital (Higgins).
        new_high: Of the same.
        tau2: Variance between hospitals, on the scale (DerSimonian and Laird).
        q: Cochran's Q.
        n_hospitals: How many there are.
    """

    mean: float
    low: float
    high: float
    new_low: float
    new_high: float
    tau2: float
    q: float
    n_hospitals: int


def random_effects(found: OnScale, *, level: float = LEVEL) -> RandomEffects:
    """Return the mean over hospitals, its interval, and the interval of a new hospital.

    With three to five hospitals the prediction interval is often too narrow, because the spread is
    estimated from so few: see ``new_hospital``.

    Args:
        found: Of ``on_scale``.
        level: Coverage aimed at.

    Source:
        DerSimonian and Laird 1986, doi:10.1016/0197-2456(86)90046-2; Knapp and Hartung 2003,
        doi:10.1002/sim.1482 (variance of the mean, never below the plain one); Higgins et al.
        2009, doi:10.1111/j.1467-985X.2008.00552.x (prediction interval).
    """
    k, fixed = found.n, 1 / found.variance
    q = float((fixed * (found.y - (fixed @ found.y) / fixed.sum()) ** 2).sum())
    spread = float(fixed.sum() - (fixed**2).sum() / fixed.sum())
    tau2 = max(0.0, (q - (k - 1)) / spread)
    weights = 1 / (found.variance + tau2)
    mean = float((weights @ found.y) / weights.sum())
    observed = float((weights * (found.y - mean) ** 2).sum() / ((k - 1) * weights.sum()))
    half = quantile_of(k - 1, level) * math.sqrt(observed)
    # The prediction interval keeps the larger variance: hospitals alike by luck are not alike.
    variance = tau2 + max(observed, 1 / float(weights.sum()))
    new_half = quantile_of(k - 2, level) * math.sqrt(variance)
    ends = (mean, mean - half, mean + half, mean - new_half, mean + new_half)
    centre, low, high, new_low, new_high = (back(end, found.scale) for end in ends)
    return RandomEffects(centre, low, high, new_low, new_high, tau2, q, k)

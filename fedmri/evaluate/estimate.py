"""A number with its interval, and the scales on which intervals are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

LEVEL = 0.95
"""Coverage that every interval aims at, unless a call asks for another."""

Scale = Literal["identity", "log", "logit", "fisher"]
"""Where an interval is symmetric: as it is, for positive numbers, for shares, for correlations."""


@dataclass(frozen=True)
class Estimate:
    """A number, how sure it is, and over how many patients; NaN where it cannot be said."""

    value: float
    low: float
    high: float
    n_subjects: int

    @property
    def has_interval(self) -> bool:
        """Whether there were patients enough to say how sure the number is."""
        return math.isfinite(self.low) and math.isfinite(self.high)


_SCALES: dict[
    Scale, tuple[Callable[[float], float], Callable[[float], float], Callable[[float], float]]
] = {
    "identity": (lambda x: x, lambda x: x, lambda _: 1.0),
    "log": (math.log, math.exp, lambda x: 1 / x),
    "logit": (
        lambda x: float(special.logit(x)),
        lambda x: float(special.expit(x)),
        lambda x: 1 / (x * (1 - x)),
    ),
    "fisher": (math.atanh, math.tanh, lambda x: 1 / (1 - x * x)),
}
_RANGES: dict[Scale, tuple[float, float]] = {
    "identity": (-math.inf, math.inf),
    "log": (0.0, math.inf),
    "logit": (0.0, 1.0),
    "fisher": (-1.0, 1.0),
}


def scale_of(low: float, high: float) -> Scale:
    """Return the scale that the range of a metric asks for."""
    return next((scale for scale, ends in _RANGES.items() if ends == (low, high)), "identity")


def is_inside(value: float, scale: Scale) -> bool:
    """Tell whether a number can be put on a scale."""
    low, high = _RANGES[scale]
    return math.isfinite(value) and low < value < high


def onto(value: float, error: float, scale: Scale) -> tuple[float, float]:
    """Return a number and its standard error on a scale (delta method)."""
    forward, _, slope = _SCALES[scale]
    return forward(value), error * slope(value)


def back(value: float, scale: Scale) -> float:
    """Return a number of a scale as it was before."""
    return float(_SCALES[scale][1](value))


def quantile_of(df: float, level: float = LEVEL) -> float:
    """Return the two-sided quantile of Student's t; the normal one for infinite ``df``."""
    if math.isinf(df):
        return float(special.ndtri((1 + level) / 2))
    return float(special.stdtrit(df, (1 + level) / 2)) if df > 0 else math.nan


@dataclass(frozen=True)
class Certainty:
    """How an interval is made from a standard error.

    Attributes:
        scale: Where it is symmetric.
        df: Degrees of freedom of Student's t.
        level: Coverage aimed at.
    """

    scale: Scale = "identity"
    df: float = math.inf
    level: float = LEVEL


def interval(value: float, error: float, n_subjects: int, how: Certainty | None = None) -> Estimate:
    """Return a number with Student's interval on a scale; without one where none can be made."""
    how = how or Certainty()
    q = quantile_of(how.df, how.level)
    if not (is_inside(value, how.scale) and error > 0 and math.isfinite(error * q)):
        return Estimate(value, math.nan, math.nan, n_subjects)
    centre, spread = onto(value, error, how.scale)
    ends = [back(centre + sign * q * spread, how.scale) for sign in (-1, 1)]
    return Estimate(value, ends[0], ends[1], n_subjects)


def mean_interval(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], how: Certainty | None = None
) -> Estimate:
    """Return the mean of independent patients with Student's interval.

    Args:
        values: One a patient, shape ``(n,)``, all finite.
        how: Scale and level; its ``df`` is replaced by ``n - 1``.

    Source:
        Student 1908, doi:10.1093/biomet/6.1.1.
    """
    how, n = how or Certainty(), len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return interval(float(values.mean()), error, n, Certainty(how.scale, n - 1.0, how.level))


def difference_of(first: Estimate, second: Estimate) -> Estimate:
    """Return the difference of two independent numbers by the limits of both intervals.

    Source:
        Zou and Donner 2008, doi:10.1002/sim.3095 (MOVER); Newcombe 1998,
        doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I (proportions).
    """
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high, first.n_subjects + second.n_subjects)

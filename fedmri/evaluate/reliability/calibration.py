"""Calibration: whether patients with a probability of p are positive in a share p of cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fedmri.evaluate.arrays import Array, Flags, Indices, require_same_length, unfit
from fedmri.evaluate.estimate import LEVEL, Certainty, Estimate, interval, mean_interval

N_BINS = 15
LEAST = 1e-7
"""Probabilities nearer to 0 or 1 are taken as this near: a logit of 0 or 1 is infinite."""
MOST_STEPS = 60


@dataclass(frozen=True)
class Ece:
    """The expected calibration error beside what a perfect model would show on so few patients.

    Attributes:
        value: Mean distance of bins, weighted by their patients.
        null: Its mean over patients whom the probabilities describe perfectly.
        p_value: Share of such draws with an error as large.
        n_bins: Bins of one width.
    """

    value: float
    null: float
    p_value: float
    n_bins: int


def ece(confidence: Array, is_hit: Array, n_bins: int = N_BINS) -> float:
    """Return the expected calibration error in bins of one width.

    Args:
        confidence: Of each patient, 0 to 1, shape ``(n,)``: the probability of the positive class
            with its truth as ``is_hit``, or that of the called class with whether it was right.
        is_hit: 0 or 1, shape ``(n,)``.
        n_bins: How many bins.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602; Guo et al. 2017, arXiv:1706.04599.
    """
    n = require_same_length(confidence=confidence, is_hit=is_hit)
    return float(np.abs(_gaps(confidence, np.asarray(is_hit, float)[None], n_bins)).sum() / n)


def _gaps(confidence: Array, hits: Array, n_bins: int) -> Array:
    """Return hits minus confidence, summed in each bin; shape ``(b, n_bins)``."""
    # A border belongs to the bin below, as in Guo et al.'s own code.
    places = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    member = np.zeros((len(confidence), n_bins))
    member[np.arange(len(confidence)), places] = 1
    return np.asarray((hits - confidence) @ member)


def ece_beside_null(
    confidence: Array,
    is_hit: Array,
    rng: np.random.Generator,
    *,
    n_bins: int = N_BINS,
    n_draws: int = 1000,
) -> Ece:
    """Return the calibration error beside the one of a perfectly calibrated model.

    The error is never 0, even for a perfect model: with 50 patients it is about 0.12. The null
    draws the outcome of each patient by its own probability.

    Args:
        confidence: Shape ``(n,)``, see ``ece``.
        is_hit: Shape ``(n,)``.
        rng: Draws outcomes.
        n_bins: How many bins.
        n_draws: Draws of the null.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Vaicenavicius et al. 2019, arXiv:1902.06977 (consistency resampling).
    """
    value, n = ece(confidence, is_hit, n_bins), len(confidence)
    drawn = (rng.random((n_draws, n)) < confidence).astype(float)
    null = np.abs(_gaps(confidence, drawn, n_bins)).sum(axis=1) / n
    as_large = int((null >= value - 1e-12).sum())
    return Ece(value, float(null.mean()), (1 + as_large) / (1 + n_draws), n_bins)


def brier(probability: Array, is_positive: Flags, *, level: float = LEVEL) -> Estimate:
    """Return the mean squared distance of the probability from the truth, 0 to 1.

    Source:
        Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    """
    require_same_length(probability=probability, is_positive=is_positive)
    squares = (probability - is_positive) ** 2
    return mean_interval(squares, Certainty("logit", level=level))


@dataclass(frozen=True)
class Line:
    """Calibration as a straight line between logits.

    Attributes:
        slope: 1 is right; below 1 probabilities are too extreme.
        intercept: Calibration in the large: what must be added to all logits; 0 is right.
    """

    slope: Estimate
    intercept: Estimate


@dataclass(frozen=True)
class LogisticSums:
    """What one site sends in a step of a logistic fit: sums over its patients.

    Attributes:
        gradient: Of the loss, shape ``(k,)``.
        curvature: Second derivatives, shape ``(k, k)``.
        n: Patients.
    """

    gradient: Array
    curvature: Array
    n: int


AtSite = Callable[[Array], LogisticSums]
"""A site's answer to parameters."""


def fit_by_sums(sites: Sequence[AtSite], start: Array) -> tuple[Array, Array, int]:
    """Minimise a convex loss by Newton steps over sums of sites.

    The result is the one of pooled patients, because sums of sites are sums over all patients.

    Args:
        sites: Asked for sums at each step.
        start: First parameters, shape ``(k,)``.

    Returns:
        Parameters, their covariance ``(k, k)``, and the patients; NaN where no minimum is found.

    Source:
        Wu et al. 2012, doi:10.1136/amiajnl-2012-000862 (GLORE: Newton steps by sums).
    """
    found = np.array(start, dtype=np.float64)
    for _ in range(MOST_STEPS):
        answers = [site(found) for site in sites]
        gradient = np.sum([one.gradient for one in answers], axis=0)
        curvature = np.sum([one.curvature for one in answers], axis=0)
        n = sum(one.n for one in answers)
        if not np.isfinite(curvature).all() or np.linalg.cond(curvature) > 1e12:
            break
        step = np.linalg.solve(curvature, gradient)
        found = found - step * min(1.0, 2.0 / max(1e-300, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-10:
            return found, np.asarray(np.linalg.inv(curvature)), n
    return np.full_like(found, np.nan), np.full((len(found),) * 2, np.nan), 0


def line_sums(probability: Array, is_positive: Flags, *, has_slope: bool = True) -> AtSite:
    """Return a site's answers for the calibration line: intercept and, if asked for, slope."""
    x, y = logit_of(probability), np.asarray(is_positive, dtype=np.float64)
    design = np.stack([np.ones_like(x), x] if has_slope else [np.ones_like(x)], axis=1)
    offset = np.zeros_like(x) if has_slope else x

    def answer(parameters: Array) -> LogisticSums:
        p = special.expit(offset + design @ parameters)
        curvature = design.T @ (design * (p * (1 - p))[:, None])
        return LogisticSums(design.T @ (p - y), curvature, len(y))

    return answer


def calibration_line(sites: Sequence[tuple[Array, Flags]], *, level: float = LEVEL) -> Line:
    """Return the slope and intercept of calibration over sites, by sums alone.

    Args:
        sites: Probabilities and truths of each site, shapes ``(n,)``.
        level: Coverage aimed at.

    Raises:
        UsageError: Lengths differ, or a site has no patient (U80).

    Source:
        Cox 1958, doi:10.1093/biomet/45.3-4.562; Van Calster et al. 2019,
        doi:10.1186/s12916-019-1466-7.
    """
    for probability, is_positive in sites:
        require_same_length(probability=probability, is_positive=is_positive)
    both, covariance, n = fit_by_sums([line_sums(p, y) for p, y in sites], np.array([0.0, 1.0]))
    one, variance, _ = fit_by_sums(
        [line_sums(p, y, has_slope=False) for p, y in sites], np.zeros(1)
    )
    how = Certainty(df=max(1.0, n - 2.0), level=level)
    return Line(
        slope=interval(float(both[1]), math.sqrt(covariance[1, 1]), n, how),
        intercept=interval(float(one[0]), math.sqrt(variance[0, 0]), n, how),
    )


def logit_of(probability: Array) -> Array:
    """Return logits; probabilities of 0 and 1 are taken as just off them."""
    return np.asarray(special.logit(np.clip(probability, LEAST, 1 - LEAST)))


def temperature_sums(logits: Array, truth: Indices) -> AtSite:
    """Return a site's answers for the inverse temperature.

    Args:
        logits: Of validation patients, shape ``(n, k)``.
        truth: Their classes, shape ``(n,)``.
    """
    require_same_length(logits=logits, truth=truth)
    own = logits[np.arange(len(truth)), truth]

    def answer(parameters: Array) -> LogisticSums:
        p = special.softmax(parameters[0] * logits, axis=1)
        mean = (p * logits).sum(axis=1)
        spread = (p * logits**2).sum(axis=1) - mean**2
        return LogisticSums(np.array([(mean - own).sum()]), np.array([[spread.sum()]]), len(truth))

    return answer


def temperature(sites: Sequence[tuple[Array, Indices]]) -> float:
    """Return the temperature that logits are divided by, over the patients of all sites.

    Sites send sums of first and second derivatives, and no patient. For one site alone, pass it
    alone. Fit on validation patients only.

    Args:
        sites: Logits ``(n, k)`` and classes ``(n,)`` of each site.

    Raises:
        UsageError: Lengths differ, a site has no patient, or no temperature fits best: the model
            is always right or no better than chance (U80).

    Source:
        Guo et al. 2017, arXiv:1706.04599.
    """
    found, _, _ = fit_by_sums([temperature_sums(*site) for site in sites], np.ones(1))
    inverse = float(found[0])
    if not inverse > 0:
        want = "patients of whom some are called right and some wrong"
        raise unfit("logits of a temperature", "no best temperature", want)
    return 1 / inverse

"""Calibration: whether patients with a probability of p are positive in a share p of cases."""

from __future__ import annotations

import functools
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
        loss: What is minimised.
        gradient: Of the loss, shape ``(k,)``.
        curvature: Second derivatives, shape ``(k, k)``.
        squares: Products of the patients' own gradients, shape ``(k, k)``.
        n: Patients.
    """

    loss: float
    gradient: Array
    curvature: Array
    squares: Array
    n: int

    def plus(self, other: LogisticSums) -> LogisticSums:
        """Return the sums of two sites together."""
        return LogisticSums(
            self.loss + other.loss,
            self.gradient + other.gradient,
            self.curvature + other.curvature,
            self.squares + other.squares,
            self.n + other.n,
        )


AtSite = Callable[[Array], LogisticSums]
"""A site's answer to parameters."""


@dataclass(frozen=True)
class Fitted:
    """Parameters of least loss; NaN where there is no minimum.

    Attributes:
        parameters: Shape ``(k,)``.
        covariance: Robust: it holds where the model is wrong too. Shape ``(k, k)``.
        n: Patients.
    """

    parameters: Array
    covariance: Array
    n: int


def fit_by_sums(sites: Sequence[AtSite], start: Array) -> Fitted:
    """Minimise a convex loss by Newton steps over sums of sites.

    The result is the one of pooled patients, because sums of sites are sums over all patients.

    Args:
        sites: Asked for sums at each step.
        start: First parameters, shape ``(k,)``.

    Source:
        Wu et al. 2012, doi:10.1136/amiajnl-2012-000862 (GLORE: Newton steps by sums); White 1980,
        doi:10.2307/1912934 (robust covariance).
    """
    place, k = np.array(start, dtype=np.float64), len(start)
    sums = _over(sites, place)
    for _ in range(MOST_STEPS):
        if not np.isfinite(sums.curvature).all() or np.linalg.cond(sums.curvature) > 1e12:
            break
        step = np.linalg.solve(sums.curvature, sums.gradient)
        if float(np.abs(step).max()) < 1e-10:
            inverse = np.linalg.inv(sums.curvature) * math.sqrt(sums.n / max(1, sums.n - k))
            return Fitted(place, np.asarray(inverse @ sums.squares @ inverse), sums.n)
        ahead = _over(sites, place - step)
        while not ahead.loss <= sums.loss + 1e-9 and float(np.abs(step).max()) > 1e-10:
            step = step / 2
            ahead = _over(sites, place - step)
        place, sums = place - step, ahead
    return Fitted(np.full(k, np.nan), np.full((k, k), np.nan), sums.n)


def _over(sites: Sequence[AtSite], parameters: Array) -> LogisticSums:
    return functools.reduce(LogisticSums.plus, (site(parameters) for site in sites))


def line_sums(probability: Array, is_positive: Flags, *, has_slope: bool = True) -> AtSite:
    """Return a site's answers for the calibration line: intercept and, if asked for, slope."""
    x, y = logit_of(probability), np.asarray(is_positive, dtype=np.float64)
    design = np.stack([np.ones_like(x), x] if has_slope else [np.ones_like(x)], axis=1)
    offset = np.zeros_like(x) if has_slope else x

    def answer(parameters: Array) -> LogisticSums:
        z = offset + design @ parameters
        p = special.expit(z)
        own = design * (p - y)[:, None]
        curvature = design.T @ (design * (p * (1 - p))[:, None])
        loss = float((np.logaddexp(0, z) - y * z).sum())
        return LogisticSums(loss, own.sum(axis=0), curvature, own.T @ own, len(y))

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
    both = fit_by_sums([line_sums(p, y) for p, y in sites], np.zeros(2))
    one = fit_by_sums([line_sums(p, y, has_slope=False) for p, y in sites], np.zeros(1))
    how = Certainty(df=max(1.0, both.n - 2.0), level=level)
    errors = [math.sqrt(fit.covariance[-1, -1]) for fit in (both, one)]
    return Line(
        slope=interval(float(both.parameters[1]), errors[0], both.n, how),
        intercept=interval(float(one.parameters[0]), errors[1], one.n, how),
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
    right = logits[np.arange(len(truth)), truth]

    def answer(parameters: Array) -> LogisticSums:
        z = parameters[0] * logits
        p = special.softmax(z, axis=1)
        mean = (p * logits).sum(axis=1)
        spread = float(((p * logits**2).sum(axis=1) - mean**2).sum())
        own = mean - right
        loss = float((special.logsumexp(z, axis=1) - parameters[0] * right).sum())
        sums = (np.array([own.sum()]), np.array([[spread]]), np.array([[own @ own]]))
        return LogisticSums(loss, *sums, len(truth))

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
    found = fit_by_sums([temperature_sums(*site) for site in sites], np.ones(1))
    inverse = float(found.parameters[0])
    # where all are right, gradients end as zeros by rounding, and a step looks like the last
    n_wrong = sum(int((z.max(axis=1) > z[np.arange(len(y)), y]).sum()) for z, y in sites)
    if not (inverse > 0 and n_wrong):
        want = "patients of whom some are called right and some wrong"
        raise unfit("logits of a temperature", "no best temperature", want)
    return 1 / inverse

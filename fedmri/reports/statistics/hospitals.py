"""Hospitals as random units: what another set of hospitals like these would give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedmri.reports.statistics.bounds import scaled_t
from fedmri.reports.statistics.intervals import Estimate, estimate_of
from fedmri.reports.statistics.scores import Score
from fedmri.reports.statistics.spread import Spread, spread_of

LEAST_HOSPITALS = 3
"""With fewer, their spread is known from one difference."""


def over_hospitals(scores: Sequence[Score]) -> Estimate | None:
    """Return the mean of the hospitals' own scores, each weighing alike.

    The interval is Student's over hospitals, on the logit or log scale of the metric, with
    trainings crossed with hospitals. It holds both what patients and what hospitals do.

    Args:
        scores: Of one model, one a hospital.

    Returns:
        None below three hospitals, and where one has no score.
    """
    found = _spread(scores, None)
    if found is None:
        return None
    value, spread = found
    metric = scores[0].metric
    low, high = scaled_t(value, spread, metric.low, metric.high)
    return estimate_of(value, low, high, sum(score.n_subjects for score in scores))


def difference_over_hospitals(scores: Sequence[Score], others: Sequence[Score]) -> Estimate | None:
    """Return the mean over hospitals of the difference of two models, paired by hospital."""
    found = _spread(scores, others)
    if found is None:
        return None
    value, spread = found
    low, high = scaled_t(value, spread, -math.inf, math.inf)
    return estimate_of(value, low, high, sum(score.n_subjects for score in scores))


def _spread(scores: Sequence[Score], others: Sequence[Score] | None) -> tuple[float, Spread] | None:
    n_hospitals = len(scores)
    if n_hospitals < LEAST_HOSPITALS:
        return None
    each = [score.contrast for score in scores]
    if others is not None:
        each = [a.minus(b.contrast) for a, b in zip(each, others, strict=True)]
    by_training = np.stack([one.by_training for one in each], axis=1)
    if not np.isfinite(by_training).all():
        return None
    mean = by_training.mean(axis=1)
    shares = (by_training - mean[:, None]) / n_hospitals
    spread = spread_of(shares, mean, np.zeros(n_hospitals, dtype=np.intp))
    return float(np.mean([one.value for one in each])), spread

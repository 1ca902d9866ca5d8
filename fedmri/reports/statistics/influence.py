"""How far each patient moves a metric: what variances of scores and of differences come from.

A part of a metric is a number of its own: the recall of one class, or the whole metric where it has
no parts. Its influence is linear: adding ``influence.mean()`` of other patients to the value gives,
to first order, the value over those patients.

Source:
    Hampel 1974, doi:10.1080/01621459.1974.10482962; DeLong et al. 1988, doi:10.2307/2531595
    (areas).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.evaluate.scores.ranking import placements_of
from fedmri.reports.statistics.weighted import Array, Panel, called_classes, errors


@dataclass(frozen=True)
class Part:
    """One part of a metric over the patients of one model; the metric is the mean of its parts.

    Attributes:
        value: NaN where the part is not defined.
        influence: Of each patient, shape ``(n,)``, with a mean of 0.
        sizes: Patients that decide it: one number, or positives and negatives of an area.
    """

    value: float
    influence: Array
    sizes: tuple[float, ...]


Influence = Callable[[Panel], tuple[Part, ...]]
"""The parts of a metric; their mean is the task's own number where all are defined."""


def mean_of(values: Array) -> tuple[Part, ...]:
    """Return the mean over the patients whose value is finite."""
    is_finite = np.isfinite(values)
    n = int(is_finite.sum())
    if n == 0:
        return (Part(float("nan"), np.zeros(len(values)), (0.0,)),)
    mean = float(values[is_finite].mean())
    influence = np.where(is_finite, np.where(is_finite, values, 0.0) - mean, 0.0)
    return (Part(mean, influence * (len(values) / n), (float(n),)),)


def accuracy(panel: Panel) -> tuple[Part, ...]:
    """Return the share of patients whose called class is theirs."""
    return mean_of((called_classes(panel) == panel.truth).astype(float))


def brier(panel: Panel) -> tuple[Part, ...]:
    """Return the mean squared distance of the probabilities from the class."""
    is_class = panel.truth[:, None] == np.arange(panel.prediction.shape[1])
    return mean_of(((panel.prediction - is_class) ** 2).sum(axis=1))


def recalls(panel: Panel) -> tuple[Part, ...]:
    """Return the recall of each class."""
    called = called_classes(panel)
    return tuple(
        ratio((panel.truth == k) & (called == k), panel.truth == k)
        for k in range(panel.prediction.shape[1])
    )


def f1_scores(panel: Panel) -> tuple[Part, ...]:
    """Return the F1 score of each class; its size is half of those that are or are called it."""
    called = called_classes(panel)
    return tuple(
        ratio(
            ((panel.truth == k) & (called == k)).astype(float),
            0.5 * ((panel.truth == k).astype(float) + (called == k)),
            is_defined=bool((panel.truth == k).any()),
        )
        for k in range(panel.prediction.shape[1])
    )


def ratio(above: Array, below: Array, *, is_defined: bool = True) -> Part:
    """Return a quotient of sums over patients."""
    total, n = float(below.sum()), len(below)
    if total == 0 or not is_defined:
        return Part(float("nan"), np.zeros(n), (0.0,))
    value = float(above.sum()) / total
    return Part(value, (above.astype(float) - value * below) * (n / total), (total,))


def areas(panel: Panel) -> tuple[Part, ...]:
    """Return the one-versus-rest ROC area of each class; two classes have one area in common."""
    n_classes = panel.prediction.shape[1]
    wanted = (1,) if n_classes == 2 else range(n_classes)
    return tuple(area(panel.prediction[:, k], panel.truth == k) for k in wanted)


def area(score: Array, is_positive: NDArray[np.bool_]) -> Part:
    """Return a ROC area with DeLong's placements."""
    n, m = len(score), int(is_positive.sum())
    if m in {0, n}:
        return Part(float("nan"), np.zeros(n), (float(m), float(n - m)))
    placements = placements_of(score, is_positive)
    value = float(placements[is_positive].mean())
    share = np.where(is_positive, n / m, n / (n - m))
    return Part(value, (placements - value) * share, (float(m), float(n - m)))


def mean_square(panel: Panel) -> tuple[Part, ...]:
    """Return the root of the mean squared error."""
    (square,) = mean_of(errors(panel) ** 2)
    root = float(np.sqrt(square.value))
    scale = 0.5 / root if root > 0 else 0.0
    return (Part(root, square.influence * scale, square.sizes),)


def absolute_errors(panel: Panel) -> tuple[Part, ...]:
    """Return the mean absolute error."""
    return mean_of(np.abs(errors(panel)))


def explained(panel: Panel) -> tuple[Part, ...]:
    """Return 1 - SSE / SST around the mean of these patients."""
    square, n = errors(panel) ** 2, len(panel.truth)
    spread = (panel.truth - panel.truth.mean()) ** 2
    if spread.mean() <= 1e-12:
        return (Part(float("nan"), np.zeros(n), (float(n),)),)
    lost = float(square.mean() / spread.mean())
    influence = -(square - lost * spread) / spread.mean()
    return (Part(1 - lost, influence, (float(n),)),)


def correlation(panel: Panel) -> tuple[Part, ...]:
    """Return Pearson's correlation of truth and prediction."""
    n = len(panel.truth)
    x, y = panel.truth - panel.truth.mean(), panel.prediction[:, 0]
    y = y - y.mean()
    if min(x.std(), y.std()) <= 1e-9:
        return (Part(float("nan"), np.zeros(n), (float(n),)),)
    x, y = x / x.std(), y / y.std()
    r = float((x * y).mean())
    return (Part(r, x * y - 0.5 * r * (x**2 + y**2), (float(n),)),)

"""The metrics of a task under many weightings of its patients at once: what a bootstrap needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.tasks.task import Case

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """Patients of one model as arrays.

    Attributes:
        truth: One number a patient, shape ``(n,)``, or several, shape ``(n, m)``.
        prediction: What is predicted, shape ``(n, k)``; ``k`` is 0 for label maps.
        scores: The patients' own metrics, each of shape ``(n,)``, NaN where undefined.
    """

    truth: Array
    prediction: Array
    scores: Mapping[str, Array]


Weighted = Callable[[Panel, Array], Array]
"""A metric: ``weights`` of shape ``(B, n)``, one weight a patient, to values of shape ``(B,)``."""


def panel(cases: Sequence[Case]) -> Panel:
    """Return the arrays of some patients, in their order."""
    names = sorted({name for case in cases for name in case.scores})
    nan = float("nan")
    return Panel(
        np.array([case.truth for case in cases], dtype=np.float64),
        np.array([case.prediction for case in cases], dtype=np.float64).reshape(len(cases), -1),
        {name: np.array([case.scores.get(name, nan) for case in cases]) for name in names},
    )


def ratio(above: Array, below: Array) -> Array:
    """Return a quotient; NaN where nothing is below."""
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def mean(values: Array, weights: Array) -> Array:
    """Return the weighted means of values, leaving out those that are not finite."""
    is_finite = np.isfinite(values)
    return ratio(weights @ np.where(is_finite, values, 0.0), weights @ is_finite.astype(float))


def mean_over_classes(values: Array) -> Array:
    """Return the mean of the columns that are known, shape ``(B,)``."""
    is_finite = np.isfinite(values)
    total = np.where(is_finite, values, 0.0).sum(axis=1)
    return ratio(total, is_finite.sum(axis=1).astype(float))


def called_classes(panel: Panel) -> Array:
    """Return the called class: what a patient's examples voted, else the most probable."""
    voted = panel.scores.get("predicted")
    return panel.prediction.argmax(axis=1).astype(np.float64) if voted is None else voted


def _recall(panel: Panel, weights: Array, label: int) -> Array:
    is_class = (panel.truth == label).astype(float)
    is_hit = is_class * (called_classes(panel) == label)
    return ratio(weights @ is_hit, weights @ is_class)


def accuracy(panel: Panel, weights: Array) -> Array:
    """Return the share of patients whose called class is theirs, shape ``(B,)``."""
    return mean((called_classes(panel) == panel.truth).astype(float), weights)


def balanced_accuracy(panel: Panel, weights: Array) -> Array:
    """Return the mean recall of the classes that occur, shape ``(B,)``."""
    labels = range(panel.prediction.shape[1])
    return mean_over_classes(np.stack([_recall(panel, weights, k) for k in labels], axis=1))


def macro_f1(panel: Panel, weights: Array) -> Array:
    """Return the mean F1 score of the classes that occur or are called, shape ``(B,)``."""

    def f1(label: int) -> Array:
        is_true = (panel.truth == label).astype(float)
        is_called = (called_classes(panel) == label).astype(float)
        return ratio(2 * (weights @ (is_true * is_called)), weights @ (is_true + is_called))

    labels = range(panel.prediction.shape[1])
    return mean_over_classes(np.stack([f1(label) for label in labels], axis=1))


def auc(score: Array, is_positive: NDArray[np.bool_], weights: Array) -> Array:
    """Return weighted areas under the ROC curve: Mann-Whitney, ties count one half.

    Args:
        score: Of each patient, shape ``(n,)``.
        is_positive: Shape ``(n,)``.
        weights: Counts of each patient, shape ``(B, n)``.

    Returns:
        Shape ``(B,)``; NaN where a weighting leaves a class empty.
    """
    positive, negative = score[is_positive], score[~is_positive]
    wins = (negative[:, None] < positive).astype(np.float32)
    wins += np.float32(0.5) * (negative[:, None] == positive)
    # Half-integer counts are exact in float32 up to 2**23, and the product takes half the time.
    of_positive = weights[:, is_positive]
    of_negative = weights[:, ~is_positive]
    won = of_negative.astype(np.float32) @ wins
    total = np.einsum("bi,bi->b", won.astype(np.float64), of_positive)
    return ratio(total, of_positive.sum(axis=1) * of_negative.sum(axis=1))


def roc_auc(panel: Panel, weights: Array) -> Array:
    """Return the mean one-versus-rest ROC area, shape ``(B,)``."""
    n_classes = panel.prediction.shape[1]
    areas = [auc(panel.prediction[:, k], panel.truth == k, weights) for k in range(n_classes)]
    return mean_over_classes(np.stack(areas, axis=1))


def brier(panel: Panel, weights: Array) -> Array:
    """Return the mean squared distance of the probabilities from the class, shape ``(B,)``."""
    is_class = panel.truth[:, None] == np.arange(panel.prediction.shape[1])
    return mean(((panel.prediction - is_class) ** 2).sum(axis=1), weights)


def errors(panel: Panel) -> Array:
    """Return predicted minus true values, shape ``(n,)``."""
    return panel.prediction[:, 0] - panel.truth


def mae(panel: Panel, weights: Array) -> Array:
    """Return the mean absolute error, shape ``(B,)``."""
    return mean(np.abs(errors(panel)), weights)


def rmse(panel: Panel, weights: Array) -> Array:
    """Return the root of the mean squared error, shape ``(B,)``."""
    return np.sqrt(mean(errors(panel) ** 2, weights))


def _spread(values: Array, weights: Array) -> Array:
    centred = values - values.mean()  # against cancellation: ages spread less than they are high
    return mean(centred**2, weights) - mean(centred, weights) ** 2


def r2(panel: Panel, weights: Array) -> Array:
    """Return 1 - SSE / SST around the mean of the patients, shape ``(B,)``."""
    spread = _spread(panel.truth, weights)
    return 1 - ratio(mean(errors(panel) ** 2, weights), np.where(spread > 1e-12, spread, 0))


def correlation(panel: Panel, weights: Array) -> Array:
    """Return Pearson's correlation of truth and prediction, shape ``(B,)``."""
    x = panel.truth - panel.truth.mean()
    y = panel.prediction[:, 0] - panel.prediction[:, 0].mean()
    covariance = mean(x * y, weights) - mean(x, weights) * mean(y, weights)
    product = _spread(x, weights) * _spread(y, weights)
    return ratio(covariance, np.sqrt(np.where(product > 1e-18, product, 0)))

"""The metrics of a task under many weightings of its patients at once: what a bootstrap needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.training.task import Case

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """Patients of one model as arrays.

    Attributes:
        truth: Class index or value, shape ``(n,)``.
        prediction: Class probabilities or value, shape ``(n, k)``; ``k`` is 0 for segmentation.
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


def _ratio(above: Array, below: Array) -> Array:
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def mean(values: Array, weights: Array) -> Array:
    """Return the weighted means of values, leaving out those that are not finite."""
    is_finite = np.isfinite(values)
    return _ratio(weights @ np.where(is_finite, values, 0.0), weights @ is_finite.astype(float))


def _mean_over_classes(values: Array) -> Array:
    is_finite = np.isfinite(values)
    total = np.where(is_finite, values, 0.0).sum(axis=1)
    return _ratio(total, is_finite.sum(axis=1).astype(float))


def _labels(panel: Panel) -> Array:
    """Return the called class: what a patient's examples voted, else the most probable."""
    voted = panel.scores.get("predicted")
    return panel.prediction.argmax(axis=1).astype(np.float64) if voted is None else voted


def _recall(panel: Panel, weights: Array, label: int) -> Array:
    is_class = (panel.truth == label).astype(float)
    is_hit = is_class * (_labels(panel) == label)
    return _ratio(weights @ is_hit, weights @ is_class)


def _accuracy(panel: Panel, weights: Array) -> Array:
    return mean((_labels(panel) == panel.truth).astype(float), weights)


def _balanced_accuracy(panel: Panel, weights: Array) -> Array:
    labels = range(panel.prediction.shape[1])
    return _mean_over_classes(np.stack([_recall(panel, weights, k) for k in labels], axis=1))


def _macro_f1(panel: Panel, weights: Array) -> Array:
    def f1(label: int) -> Array:
        is_true = (panel.truth == label).astype(float)
        is_called = (_labels(panel) == label).astype(float)
        return _ratio(2 * (weights @ (is_true * is_called)), weights @ (is_true + is_called))

    labels = range(panel.prediction.shape[1])
    return _mean_over_classes(np.stack([f1(label) for label in labels], axis=1))


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
    return _ratio(total, of_positive.sum(axis=1) * of_negative.sum(axis=1))


def _roc_auc(panel: Panel, weights: Array) -> Array:
    n_classes = panel.prediction.shape[1]
    areas = [auc(panel.prediction[:, k], panel.truth == k, weights) for k in range(n_classes)]
    return _mean_over_classes(np.stack(areas, axis=1))


def _brier(panel: Panel, weights: Array) -> Array:
    is_class = panel.truth[:, None] == np.arange(panel.prediction.shape[1])
    return mean(((panel.prediction - is_class) ** 2).sum(axis=1), weights)


def _error(panel: Panel) -> Array:
    return panel.prediction[:, 0] - panel.truth


def _mae(panel: Panel, weights: Array) -> Array:
    return mean(np.abs(_error(panel)), weights)


def _rmse(panel: Panel, weights: Array) -> Array:
    return np.sqrt(mean(_error(panel) ** 2, weights))


def _spread(values: Array, weights: Array) -> Array:
    centred = values - values.mean()  # against cancellation: ages spread less than they are high
    return mean(centred**2, weights) - mean(centred, weights) ** 2


def _r2(panel: Panel, weights: Array) -> Array:
    spread = _spread(panel.truth, weights)
    return 1 - _ratio(mean(_error(panel) ** 2, weights), np.where(spread > 1e-12, spread, 0))


def _correlation(panel: Panel, weights: Array) -> Array:
    x = panel.truth - panel.truth.mean()
    y = panel.prediction[:, 0] - panel.prediction[:, 0].mean()
    covariance = mean(x * y, weights) - mean(x, weights) * mean(y, weights)
    product = _spread(x, weights) * _spread(y, weights)
    return _ratio(covariance, np.sqrt(np.where(product > 1e-18, product, 0)))


_CLASSIFICATION: dict[str, Weighted] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "auc": _roc_auc,
    "brier": _brier,
}
_REGRESSION: dict[str, Weighted] = {
    "mae": _mae,
    "rmse": _rmse,
    "r2": _r2,
    "pearson": _correlation,
}


def weighted_metric(name: str, panel: Panel) -> Weighted | None:
    """Return the metric of a name under weights, None where only the task knows it."""
    if name in panel.scores:
        return lambda panel, weights: mean(panel.scores[name], weights)
    n_outputs = panel.prediction.shape[1]
    if n_outputs == 0:
        return None
    return (_REGRESSION if n_outputs == 1 else _CLASSIFICATION).get(name)

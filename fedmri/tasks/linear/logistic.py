"""Logistic regression with a penalty: one optimum, found the same way each time."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from fedmri.tasks.task import Array

N_STEPS = 300
"""Steps of the optimizer at most."""


def logistic(
    features: NDArray[np.floating],
    classes: NDArray[np.int64],
    strength: float,
    weights: NDArray[np.floating] | None = None,
) -> LogisticRegression:
    """Return a fitted regression.

    Args:
        features: Standardised, shape ``(n, F)``.
        classes: Two or more, shape ``(n,)``.
        strength: Penalty, in units of one row.
        weights: Of each row; None weighs all alike.
    """
    model = LogisticRegression(C=1 / strength, max_iter=N_STEPS)
    with warnings.catch_warnings():
        # the penalty is chosen on validation patients, who see what was reached
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, classes, sample_weight=weights)


def balanced(weights: Array, classes: NDArray[np.int64]) -> Array:
    """Return weights under which each class weighs the same, with a mean of 1."""
    of_class = {name: weights[classes == name].sum() for name in np.unique(classes)}
    shares = np.array([weight / of_class[c] for weight, c in zip(weights, classes, strict=True)])
    return np.asarray(shares * len(weights) / shares.sum(), np.float64)


def balanced_binary(
    features: Array, classes: NDArray[np.int64], strength: float, weights: Array
) -> Callable[[Array], Array]:
    """Return the probability of class 1 where both classes weigh the same; see ``binary``."""
    has_both = len(np.unique(classes)) == 2
    even = balanced(weights, classes) if has_both else weights
    return binary(features, classes, strength, even)


def binary(
    features: Array, classes: NDArray[np.int64], strength: float, weights: Array
) -> Callable[[Array], Array]:
    """Return the probability of class 1 by features, shape ``(n, F)`` to ``(n,)``.

    Where a class is missing, the share of class 1, with a row more of each, is the answer to all.
    """
    if len(np.unique(classes)) < 2:
        share = (classes.sum() + 1) / (len(classes) + 2)
        return lambda rows: np.full(len(rows), share)
    model = logistic(features, classes, strength, weights)
    return lambda rows: np.asarray(model.predict_proba(rows)[:, 1], np.float64)

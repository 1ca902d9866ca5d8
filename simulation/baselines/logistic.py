"""Logistic regression with a penalty: one optimum, found the same way each time."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

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

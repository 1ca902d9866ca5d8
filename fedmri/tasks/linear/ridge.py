"""Ridge regression by sums over patients, so that a federation that adds them has the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmri.tasks.task import Array


@dataclass(frozen=True)
class RidgeSums:
    """Sums over patients that ridge regression needs; those of several sites add up.

    Attributes:
        weight: Sum of weights.
        features: Weighted sum of features, shape ``(F,)``.
        truth: Weighted sum of truths.
        products: Of features with each other, shape ``(F, F)``.
        covered: Of features with the truth, shape ``(F,)``.
    """

    weight: float
    features: Array
    truth: float
    products: Array
    covered: Array

    @classmethod
    def of(cls, features: Array, truths: Array, weights: Array) -> RidgeSums:
        """Return the sums of some rows."""
        weighted = features * weights[:, None]
        return cls(
            float(weights.sum()),
            weighted.sum(axis=0),
            float(weights @ truths),
            weighted.T @ features,
            weighted.T @ truths,
        )

    def __add__(self, other: RidgeSums) -> RidgeSums:
        """Return the sums of two sites together."""
        return RidgeSums(
            self.weight + other.weight,
            self.features + other.features,
            self.truth + other.truth,
            self.products + other.products,
            self.covered + other.covered,
        )

    def ridge(self, strength: float) -> tuple[float, Array]:
        """Return intercept and coefficients that minimise the mean squared error and a penalty.

        Args:
            strength: Weight of the squared norm of the coefficients; the intercept is free.
        """
        mean, level = self.features / self.weight, self.truth / self.weight
        spread = self.products / self.weight - np.outer(mean, mean)
        covariance = self.covered / self.weight - mean * level
        coefficients = np.linalg.solve(spread + strength * np.eye(len(mean)), covariance)
        return level - float(mean @ coefficients), np.asarray(coefficients, np.float64)

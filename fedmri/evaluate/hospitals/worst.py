"""The worst hospital beside what chance alone would make of hospitals that are all alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fedmri.evaluate.arrays import Array
from fedmri.evaluate.hospitals.random_effects import OnScale, random_effects


def worst_area_by_chance(
    area: float, sizes: Sequence[tuple[int, int]], rng: np.random.Generator, n_draws: int = 2000
) -> float:
    """Return the mean lowest ROC area of hospitals that all have the same true one.

    Args:
        area: The true one.
        sizes: Positive and negative patients of each hospital.
        rng: Draws normal scores of both classes.
        n_draws: How often.

    Source:
        Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747 (normal scores).
    """
    shift = float(np.sqrt(2) * special.ndtri(area))
    lowest = np.full(n_draws, np.inf)
    for m, n in sizes:
        positive = np.sort(rng.standard_normal((n_draws, m)) + shift, axis=1)
        negative = rng.standard_normal((n_draws, n))
        wins = np.array(
            [
                len(p) * len(q) - np.searchsorted(p, q).sum()
                for p, q in zip(positive, negative, strict=True)
            ]
        )
        lowest = np.minimum(lowest, wins / (m * n))
    return float(lowest.mean())


@dataclass(frozen=True)
class Shrunken:
    """Scores of hospitals drawn towards their mean by how little each knows of itself.

    Attributes:
        values: On the scale, shape ``(k,)``.
        worst: Place of the worst of them.
    """

    values: Array
    worst: int


def shrunken(found: OnScale, *, is_higher_better: bool = True) -> Shrunken:
    """Return the hospitals' scores without what chance adds to the worst of them.

    Source:
        Morris 1983, doi:10.1080/01621459.1983.10477920 (empirical Bayes).
    """
    tau2 = random_effects(found).tau2
    weights = 1 / (found.variance + tau2)
    mean = float((weights @ found.y) / weights.sum())
    drawn = mean + tau2 / (tau2 + found.variance) * (found.y - mean)
    return Shrunken(drawn, int(drawn.argmin() if is_higher_better else drawn.argmax()))

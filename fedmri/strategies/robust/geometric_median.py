"""Geometric median: the point that is nearest to all sites' models together.

Pillutla, Kakade and Harchaoui 2022, arXiv:1912.13445.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fedmri.claims import Claims
from fedmri.round import Weights
from fedmri.strategies.all_at_once import ROBUST_CLAIMS, AllAtOnce
from fedmri.strategies.spool import Spool

MAX_ITERATIONS, TOLERANCE = 1000, 1e-10


@dataclass(frozen=True)
class GeometricMedian(AllAtOnce):
    """The point whose weighted sum of distances to the sites' models is least, by Weiszfeld."""

    claims: ClassVar[Claims] = ROBUST_CLAIMS
    source: ClassVar[str] = "Pillutla et al. 2022, arXiv:1912.13445"
    consent: ClassVar[str] = (
        "no few hospitals can move the model far; the server compares your update with the others'"
    )

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the point, a convex combination of the sites' models."""
        weight = torch.tensor(spool.weights, dtype=torch.float64)
        spool.combination(geometric_median(spool.gram(), weight), out)


def geometric_median(gram: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the weights of the points in their geometric median.

    Args:
        gram: Inner products of the points, shape ``(K, K)``, float64. Distances from any
            combination of the points follow from it, so the points are not needed.
        weight: Weight of each point's distance, shape ``(K,)``.
    """
    at = weight / weight.sum()
    from_mean = torch.eye(len(at), dtype=gram.dtype) - at  # what all points share is no distance
    gram = from_mean @ gram @ from_mean.T
    tiny = 1e-12 * max(float(gram.diagonal().abs().max()), 1e-300)
    for _ in range(MAX_ITERATIONS):
        squares = gram.diagonal() - 2 * gram @ at + at @ gram @ at
        pulls = weight / squares.clamp_min(tiny).sqrt()
        new = pulls / pulls.sum()
        is_there = bool((new - at).abs().max() < TOLERANCE)
        at = new
        if is_there:
            break
    return at

"""Fuzzy c-means: memberships of clusters as a layer, and its update of centres by exact sums."""

from __future__ import annotations

import torch
from torch import nn

_LEAST = 1e-6
"""Added to squared distances: a point on a centre would divide by zero."""

FuzzySums = tuple[torch.Tensor, torch.Tensor]
"""Sum of ``u^m x``, shape ``(K, F)``, and of ``u^m``, shape ``(K,)``, over points; they add up."""


def memberships(points: torch.Tensor, centres: torch.Tensor, fuzziness: float) -> torch.Tensor:
    """Return how much each point belongs to each cluster; the rows of ``(B, K)`` sum to 1.

    ``u_ij = 1 / sum_k (d_ij / d_ik) ** (2 / (m - 1))``, which is a softmax of logarithms.

    Source:
        Bezdek 1981, doi:10.1007/978-1-4757-0450-1.
    """
    squared = (points[:, None] - centres).square().sum(-1) + _LEAST
    return torch.softmax(-squared.log() / (fuzziness - 1), 1)


def fuzzy_sums(points: torch.Tensor, centres: torch.Tensor, fuzziness: float) -> FuzzySums:
    """Return what one step of fuzzy c-means needs of a site's points, shape ``(n, F)``."""
    weight = memberships(points, centres, fuzziness) ** fuzziness
    return weight.T @ points, weight.sum(0)


def fuzzy_centres(total: FuzzySums, before: torch.Tensor) -> torch.Tensor:
    """Return the centres after a step; one that no point belongs to stays where it was.

    Args:
        total: Sums over all sites: the step is that of the pooled points.
        before: Centres that the sums were taken with, shape ``(K, F)``.
    """
    moment, weight = total
    is_used = (weight > 0)[:, None]
    return torch.where(is_used, moment / weight.clamp(min=_LEAST**2)[:, None], before)


class FuzzyMemberships(nn.Module):
    """Features to memberships of clusters, whose centres are trained like any weight."""

    def __init__(self, n_features: int, n_clusters: int, fuzziness: float) -> None:
        super().__init__()
        self.fuzziness = fuzziness
        self.norm = nn.LayerNorm(n_features)
        self.centres = nn.Parameter(torch.randn(n_clusters, n_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return memberships ``(B, K)`` of features ``(B, F)``."""
        points = self.norm(features.to(self.centres.dtype))  # all digits, under bf16 too
        return memberships(points, self.centres, self.fuzziness)

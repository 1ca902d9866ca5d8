"""The slices of a volume: read one by one, and pooled into one vector."""

from __future__ import annotations

import torch
from torch import nn


class SliceReader(nn.Module):
    """A network of flat images, used on every slice of a volume.

    Args:
        network: From ``(N, C * (2 * n_neighbours + 1), H, W)`` to ``(N, F)``.
        axis: Axis of the volume that is gone along, 0 to 2.
        n_neighbours: Slices on each side that join a slice; at the ends, the last is repeated.
    """

    def __init__(self, network: nn.Module, axis: int, n_neighbours: int = 0) -> None:
        super().__init__()
        self.network = network
        self.axis, self.n_neighbours = axis, n_neighbours

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Return features of each slice, shape ``(B, S, F)``, of volumes ``(B, C, D, H, W)``."""
        slices = volume.movedim(2 + self.axis, 1)
        n_images, n_slices = slices.shape[:2]
        if self.n_neighbours:
            middle = torch.arange(n_slices, device=volume.device)
            steps = range(-self.n_neighbours, self.n_neighbours + 1)
            taken = [slices[:, (middle + step).clamp(0, n_slices - 1)] for step in steps]
            slices = torch.cat(taken, dim=2)
        found: torch.Tensor = self.network(slices.flatten(0, 1))
        return found.reshape(n_images, n_slices, -1)


class AttentionPool(nn.Module):
    """A weighted mean of items, with gated weights that are learned.

    Source:
        Ilse, Tomczak and Welling 2018, arXiv:1802.04712 (equation 9).
    """

    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.what = nn.Linear(n_features, n_hidden)
        self.gate = nn.Linear(n_features, n_hidden)
        self.score = nn.Linear(n_hidden, 1)

    def weights(self, items: torch.Tensor) -> torch.Tensor:
        """Return the weight of each item, shape ``(B, S, 1)``; they sum to one."""
        scores: torch.Tensor = self.score(self.what(items).tanh() * self.gate(items).sigmoid())
        return scores.softmax(1)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Return ``(B, F)`` of items ``(B, S, F)``."""
        return (self.weights(items) * items).sum(1)


class MeanPool(nn.Module):
    """The plain mean of items."""

    def weights(self, items: torch.Tensor) -> torch.Tensor:
        """Return the weight of each item, shape ``(B, S, 1)``: all the same."""
        return torch.full_like(items[..., :1], 1 / items.shape[1])

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Return ``(B, F)`` of items ``(B, S, F)``."""
        return items.mean(1)

"""Parcels of the brain as the nodes of a graph without sparse matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from monai.networks.layers.factories import Conv
from torch import nn

Parcellation: TypeAlias = Literal["learned", "grid"]

_LEAST = 1e-6


class Parcels(nn.Module):
    """A map of features pooled over parcels: one vector, a node, for each.

    Args:
        kind: ``learned`` assigns each place to parcels by its features, softly; ``grid`` cuts the
            image into equal blocks.
        n_dims: Spatial dimensions of the map.
        n_features: Its channels.
        n_parcels: Nodes; of ``grid``, blocks along each axis.
    """

    def __init__(self, kind: Parcellation, n_dims: int, n_features: int, n_parcels: int) -> None:
        super().__init__()
        self.n_parcels, self.n_dims = n_parcels, n_dims
        self.assign: nn.Module | None = None
        if kind == "learned":
            self.assign = Conv[Conv.CONV, n_dims](n_features, n_parcels, kernel_size=1)

    def forward(self, features: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        """Return nodes ``(B, P, F)``.

        Args:
            features: Shape ``(B, F, *shape)``.
            given: Parcels of an atlas in place of the own, as shares of each place, shape
                ``(B, P, *shape)`` of the map or of the image: see ``shares_of``.
        """
        if given is None and self.assign is None:
            return _blocks(features, self.n_parcels)
        shares = self.assign(features).softmax(1) if given is None else given  # type: ignore[misc]
        if shares.shape[2:] != features.shape[2:]:
            shares = _resized(shares, features.shape[2:])
        weights = shares.flatten(2)
        total = weights.sum(2, keepdim=True).clamp(min=_LEAST)
        return torch.einsum("bpv,bfv->bpf", weights / total, features.flatten(2))


class GraphLayer(nn.Module):
    """A graph convolution over dense, weighted edges.

    Source:
        Kipf and Welling 2017, arXiv:1609.02907 (equation 2).
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.norm = nn.LayerNorm(n_out)

    def forward(self, nodes: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Return nodes ``(B, P, n_out)`` of nodes ``(B, P, n_in)`` and edges ``(B, P, P)``."""
        found: torch.Tensor = self.norm(edges @ self.linear(nodes))
        return found.relu()


class ParcelGraph(nn.Module):
    """Two graph convolutions over nodes whose edges are the likeness of their features."""

    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [GraphLayer(n_features, n_hidden), GraphLayer(n_hidden, n_hidden)]
        )

    def forward(self, nodes: torch.Tensor, edges: torch.Tensor | None = None) -> torch.Tensor:
        """Return one vector a graph, shape ``(B, n_hidden)``.

        Args:
            nodes: Shape ``(B, P, F)``.
            edges: Connectivity in place of the likeness, not negative, shape ``(B, P, P)``.
        """
        joined = normed_edges(likeness(nodes) if edges is None else edges)
        for layer in self.layers:
            nodes = layer(nodes, joined)
        return nodes.mean(1)


def likeness(nodes: torch.Tensor) -> torch.Tensor:
    """Return the positive part of the correlation of nodes over their features."""
    centred = nodes - nodes.mean(2, keepdim=True)
    scaled = centred / (centred.square().sum(2, keepdim=True) + _LEAST).sqrt()
    return (scaled @ scaled.transpose(1, 2)).relu()


def normed_edges(edges: torch.Tensor) -> torch.Tensor:
    """Return edges with a loop at each node, divided by the roots of both ends' degrees."""
    looped = edges + torch.eye(edges.shape[-1], device=edges.device, dtype=edges.dtype)
    root = looped.sum(2).rsqrt()
    return root[:, :, None] * looped * root[:, None, :]


def shares_of(labels: torch.Tensor, n_parcels: int) -> torch.Tensor:
    """Return an atlas, labels ``(B, *shape)`` from 1, as shares ``(B, n_parcels, *shape)``."""
    one_hot = nn.functional.one_hot(labels.long(), n_parcels + 1)
    return one_hot.movedim(-1, 1)[:, 1:].float()


def _blocks(features: torch.Tensor, n_along: int) -> torch.Tensor:
    """Return the mean of each block, for as many blocks along an axis as the map can have."""
    shape = [min(n_along, side) for side in features.shape[2:]]
    return _resized(features, shape).flatten(2).transpose(1, 2)


def _resized(values: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return means over the places that each place of a coarser map stands for."""
    pool: Any = getattr(nn.functional, f"adaptive_avg_pool{len(shape)}d")
    found: torch.Tensor = pool(values, tuple(shape))
    return found

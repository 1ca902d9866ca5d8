"""Shifts of channels by one voxel, between convolutions of 1."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from fedmri.models.blocks import answering, conv_norm
from fedmri.models.sizes import Sizes

_N_UNITS = 2


def shift_network(widths: Sequence[int], sizes: Sizes, dropout: float) -> nn.Module:
    """Return a stem, stages of two units, global average pooling and one linear layer."""
    n_dims, layers = sizes.n_dims, dict[str, nn.Module]()
    stem = conv_norm(n_dims, sizes.n_channels, widths[0], 3)
    layers["stem"] = nn.Sequential(stem, nn.ReLU())
    for i, (n_in, n_out) in enumerate(pairwise([widths[0], *widths]), 1):
        units = [ShiftUnit(n_dims, n_in, n_out, 2)]
        units += [ShiftUnit(n_dims, n_out, n_out, 1) for _ in range(_N_UNITS - 1)]
        layers[f"stage{i}"] = nn.Sequential(*units)
    return answering(layers, widths[-1], sizes, dropout)


class ShiftUnit(nn.Module):
    """Convolution of 1, shift, convolution of 1, beside a shortcut."""

    def __init__(self, n_dims: int, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.expand = conv_norm(n_dims, n_in, n_out, 1)
        self.project = conv_norm(n_dims, n_out, n_out, 1)
        is_same = n_in == n_out and stride == 1
        self.shortcut: nn.Module = nn.Identity() if is_same else conv_norm(n_dims, n_in, n_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of features."""
        body = self.project(thinned(shifted(self.expand(x).relu()), self.stride))
        total: torch.Tensor = body + self.shortcut(thinned(x, self.stride))
        return total.relu()


def shifted(x: torch.Tensor) -> torch.Tensor:
    """Move each group of channels by -1, 0 or 1 voxel along each axis; zeros come in.

    There are 9 groups in 2D and 27 in 3D, whose sizes differ by one at most. Where channels are
    too few, the longest moves have none.
    """
    n_dims, sides = x.ndim - 2, x.shape[2:]
    moves = sorted(itertools.product((0, 1, 2), repeat=n_dims), key=lambda m: -m.count(1))
    least, n_more = divmod(x.shape[1], len(moves))
    n_by_move = [least + (i < n_more) for i in range(len(moves))]
    padded = functional.pad(x, [1, 1] * n_dims)
    groups = []
    for part, move in zip(torch.split(padded, n_by_move, 1), moves, strict=True):
        window = tuple(slice(m, m + side) for m, side in zip(move, sides, strict=True))
        groups.append(part[(slice(None), slice(None), *window)])
    return torch.cat(groups, 1)


def thinned(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Return every ``stride``-th voxel along each axis."""
    return x[(slice(None), slice(None), *[slice(None, None, stride)] * (x.ndim - 2))]

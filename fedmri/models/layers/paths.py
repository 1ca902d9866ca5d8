"""Two networks side by side that see the same image through filters of different size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import nn

from fedmri.models.sizes import Sizes

_POOLS = {3: Pool.MAX, 5: Pool.AVG}
"""Pooling of each path, by its filters' size."""


class Paths(nn.Module):
    """Features of a path of 3s and one of 5s, joined, a hidden layer and one of outputs."""

    def __init__(
        self, widths: Sequence[int], sizes: Sizes, dropout: float, *, is_summed: bool
    ) -> None:
        super().__init__()
        n_last = widths[-1]
        self.is_summed = is_summed
        self.small = _path(3, widths, sizes)
        self.large = _path(5, widths, sizes)
        self.hidden = nn.Linear(n_last if is_summed else 2 * n_last, n_last)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(n_last, sizes.n_outputs)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return outputs of images."""
        small, large = self.small(image), self.large(image)
        joined = small + large if self.is_summed else torch.cat([small, large], 1)
        outputs: torch.Tensor = self.out(self.dropout(self.hidden(joined).relu()))
        return outputs


def _path(kernel: int, widths: Sequence[int], sizes: Sizes) -> nn.Module:
    n_dims, layers = sizes.n_dims, []
    for n_in, n_out in pairwise([sizes.n_channels, *widths]):
        layers += [
            Conv[Conv.CONV, n_dims](n_in, n_out, kernel_size=kernel, padding=kernel // 2),
            Norm[Norm.BATCH, n_dims](n_out),
            nn.ReLU(),
            Pool[_POOLS[kernel], n_dims](2),
        ]
    return nn.Sequential(*layers, Pool[Pool.ADAPTIVEAVG, n_dims](1), nn.Flatten(1))

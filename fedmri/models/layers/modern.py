"""Blocks of ConvNeXt in two and three dimensions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from fedmri.models.sizes import Sizes

_EPSILON, _SCALE, _KERNEL, _PATCH = 1e-6, 1e-6, 7, 4


def modern_network(width: int, depths: Sequence[int], sizes: Sizes, dropout: float) -> nn.Module:
    """Return stem, stages of blocks, the mean over places, layer norm and one linear layer."""
    n_dims, conv, layers = sizes.n_dims, Conv[Conv.CONV, sizes.n_dims], []
    for i, n_blocks in enumerate(depths):
        n = width * 2**i
        if i == 0:
            layers += [conv(sizes.n_channels, n, _PATCH, stride=_PATCH), ChannelNorm(n)]
        else:
            layers += [ChannelNorm(n // 2), conv(n // 2, n, 2, stride=2)]
        layers += [ModernBlock(n_dims, n) for _ in range(n_blocks)]
    head: OrderedDict[str, nn.Module] = OrderedDict()
    head["body"] = nn.Sequential(*layers)
    head["pool"] = _Mean()
    head["norm"] = nn.LayerNorm(n, eps=_EPSILON)
    head["dropout"] = nn.Dropout(dropout)
    head["out"] = nn.Linear(n, sizes.n_outputs)
    network = nn.Sequential(head)
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv3d)) and module.bias is not None:
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return network


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each place."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_channels, eps=_EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape."""
        normed: torch.Tensor = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return normed


class ModernBlock(nn.Module):
    """A depthwise convolution, then two linear layers at each place, beside a shortcut."""

    def __init__(self, n_dims: int, n: int) -> None:
        super().__init__()
        self.spread = Conv[Conv.CONV, n_dims](n, n, _KERNEL, padding=_KERNEL // 2, groups=n)
        self.norm = nn.LayerNorm(n, eps=_EPSILON)
        self.expand, self.project = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)
        self.gelu = nn.GELU()
        self.scale = nn.Parameter(torch.full((n,), _SCALE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape."""
        places = self.norm(self.spread(x).movedim(1, -1))
        change: torch.Tensor = self.scale * self.project(self.gelu(self.expand(places)))
        return x + change.movedim(-1, 1)


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = x.flatten(2).mean(2)
        return mean

"""Depthwise separable convolutions in residual blocks, with CBAM's two attentions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from fedmri.models.blocks import answering, conv_norm
from fedmri.models.sizes import Sizes

_REDUCTION, _KERNEL, _N_BLOCKS = 16, 7, 2


def separable_network(widths: Sequence[int], sizes: Sizes, dropout: float) -> nn.Module:
    """Return a stem, stages of two blocks, global average pooling and one linear layer."""
    n_dims, layers = sizes.n_dims, dict[str, nn.Module]()
    stem = conv_norm(n_dims, sizes.n_channels, widths[0], 3)
    layers["stem"] = nn.Sequential(stem, nn.ReLU())
    for i, (n_in, n_out) in enumerate(pairwise([widths[0], *widths]), 1):
        for j in range(_N_BLOCKS):
            first = j == 0
            stride = 2 if first and i > 1 else 1
            layers[f"stage{i}_{j + 1}"] = AttentiveBlock(
                n_dims, n_in if first else n_out, n_out, stride
            )
    return answering(layers, widths[-1], sizes, dropout)


class AttentiveBlock(nn.Module):
    """Two separable convolutions and CBAM, beside a shortcut."""

    def __init__(self, n_dims: int, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            separable(n_dims, n_in, n_out, stride),
            nn.ReLU(),
            separable(n_dims, n_out, n_out, 1),
            ChannelAttention(n_out),
            SpatialAttention(n_dims),
        )
        self.shortcut: nn.Module = nn.Identity()
        if n_in != n_out or stride > 1:
            self.shortcut = conv_norm(n_dims, n_in, n_out, 1, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of features."""
        total: torch.Tensor = self.body(x) + self.shortcut(x)
        return total.relu()


def separable(n_dims: int, n_in: int, n_out: int, stride: int) -> nn.Module:
    """Return a 3 x 3 convolution of each channel by itself, one of 1 across them, and a norm."""
    conv = Conv[Conv.CONV, n_dims]
    return nn.Sequential(
        conv(n_in, n_in, 3, stride=stride, padding=1, groups=n_in, bias=False),
        conv_norm(n_dims, n_in, n_out, 1),
    )


class ChannelAttention(nn.Module):
    """Scale channels by what one small network makes of their means and of their maxima."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        n_hidden = max(4, n_channels // _REDUCTION)
        self.shared = nn.Sequential(
            nn.Linear(n_channels, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape."""
        places = x.flatten(2)
        scale = (self.shared(places.mean(2)) + self.shared(places.amax(2))).sigmoid()
        scaled: torch.Tensor = x * scale.reshape(*scale.shape, *[1] * (x.ndim - 2))
        return scaled


class SpatialAttention(nn.Module):
    """Scale places by a convolution over the mean and the maximum of their channels."""

    def __init__(self, n_dims: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, n_dims]
        self.conv = conv(2, 1, _KERNEL, padding=_KERNEL // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of the same shape."""
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        scaled: torch.Tensor = x * self.conv(seen).sigmoid()
        return scaled

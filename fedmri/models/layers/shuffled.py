"""Units of ShuffleNet V2: two branches, whose channels are mixed by their order alone."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Pool
from torch import nn

from fedmri.models.blocks import answering, conv_norm
from fedmri.models.sizes import Sizes

_STAGES = ((116, 4), (232, 8), (464, 4))
"""Channels where the stem has 24, and units."""
_STEM, _LAST = 24, 1024


def shuffle_network(width: int, sizes: Sizes, dropout: float) -> nn.Module:
    """Return stem, three stages, a last convolution, global average pooling, a linear layer."""
    n_dims, n_in, layers = sizes.n_dims, width, dict[str, nn.Module]()
    layers["stem"] = _conv(n_dims, sizes.n_channels, width, 3, stride=2)
    layers["pooled"] = Pool[Pool.MAX, n_dims](3, stride=2, padding=1)
    for i, (n_channels, n_units) in enumerate(_STAGES, 2):
        n_out = 2 * max(1, round(n_channels * width / _STEM / 2))
        units = [ShuffleUnit(n_dims, n_in, n_out, 2)]
        units += [ShuffleUnit(n_dims, n_out, n_out, 1) for _ in range(n_units - 1)]
        layers[f"stage{i}"] = nn.Sequential(*units)
        n_in = n_out
    n_last = max(8, round(_LAST * width / _STEM))
    layers["last"] = _conv(n_dims, n_in, n_last, 1)
    return answering(layers, n_last, sizes, dropout)


class ShuffleUnit(nn.Module):
    """One unit; with a stride of 2 both branches see all channels."""

    def __init__(self, n_dims: int, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        half, self.is_split = n_out // 2, stride == 1
        n = n_in // 2 if self.is_split else n_in
        self.body = nn.Sequential(
            _conv(n_dims, n, half, 1),
            _depthwise(n_dims, half, stride),
            _conv(n_dims, half, half, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if not self.is_split:
            self.shortcut = nn.Sequential(
                _depthwise(n_dims, n_in, stride), _conv(n_dims, n_in, half, 1)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of features."""
        left, right = x.chunk(2, 1) if self.is_split else (x, x)
        return shuffled(torch.cat([self.shortcut(left), self.body(right)], 1))


def shuffled(x: torch.Tensor) -> torch.Tensor:
    """Return channels 0, C/2, 1, C/2 + 1, ...: those of both halves in turn."""
    halves = torch.stack(x.chunk(2, 1), 2)
    return halves.flatten(1, 2)


def _conv(n_dims: int, n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(conv_norm(n_dims, n_in, n_out, kernel, stride=stride), nn.ReLU())


def _depthwise(n_dims: int, n: int, stride: int) -> nn.Module:
    return conv_norm(n_dims, n, n, 3, stride=stride, groups=n)

"""A bank of Gabor filters that is fixed, and convolutions of three sizes over what it finds."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import nn
from torch.nn import functional

from fedmri.models.layers.fuzzy import FuzzyMemberships
from fedmri.models.sizes import Sizes

KERNEL, ASPECT = 7, 0.5
WAVELENGTHS = (3.0, 6.0)
"""In voxels; the envelope's width is 0.56 of it, which is a bandwidth of one octave."""
_CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
_PATHS = (3, 5, 7)


def gabor_network(width: int, fuzzy: tuple[int, float], sizes: Sizes, dropout: float) -> nn.Module:
    """Return a Gabor bank, paths of 3s, 5s and 7s, memberships of clusters, a linear layer.

    Args:
        width: Channels of the first block of a path; the second has twice as many.
        fuzzy: Number of clusters, and exponent.
        sizes: Sizes of input and output.
        dropout: Rate before the clusters.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    bank = layers["bank"] = GaborBank(sizes.n_dims, sizes.n_channels)
    layers["paths"] = _Paths(bank.n_out, width, sizes.n_dims)
    layers["dropout"] = nn.Dropout(dropout)
    layers["memberships"] = FuzzyMemberships(len(_PATHS) * 2 * width, *fuzzy)
    layers["out"] = nn.Linear(fuzzy[0], sizes.n_outputs)
    return nn.Sequential(layers)


class GaborBank(nn.Module):
    """Each channel by itself and through every filter; nothing of it is trained or travels.

    The formula is ``exp(-(x'^2 + gamma^2 r^2) / (2 sigma^2)) cos(2 pi x' / lambda)``, where ``x'``
    lies along the filter's direction and ``r`` across it. Filters have mean 0 and norm 1.
    """

    filters: torch.Tensor

    def __init__(self, n_dims: int, n_channels: int) -> None:
        super().__init__()
        self.n_dims, self.n_channels = n_dims, n_channels
        bank = torch.stack([gabor(d, length) for d in directions(n_dims) for length in WAVELENGTHS])
        filters = bank[:, None].repeat(n_channels, *[1] * (n_dims + 1))
        self.register_buffer("filters", filters, persistent=False)
        self.n_out = n_channels * (1 + len(bank))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image and its responses, ``(B, n_out, *shape)``."""
        found = _CONVOLVE[self.n_dims](
            image, self.filters.to(image.dtype), padding=KERNEL // 2, groups=self.n_channels
        )
        return torch.cat([image, found], 1)


def directions(n_dims: int) -> list[torch.Tensor]:
    """Return one unit vector for each pair of opposite neighbours: 4 in 2D, 13 in 3D."""
    found = []
    for steps in itertools.product((-1.0, 0.0, 1.0), repeat=n_dims):
        if steps > (0.0,) * n_dims:
            vector = torch.tensor(steps)
            found.append(vector / torch.linalg.vector_norm(vector))
    return found


def gabor(direction: torch.Tensor, wavelength: float) -> torch.Tensor:
    """Return one filter, shape ``(7, 7)`` or ``(7, 7, 7)``."""
    axis = torch.arange(KERNEL, dtype=torch.float32) - KERNEL // 2
    places = torch.stack(torch.meshgrid(*[axis] * len(direction), indexing="ij"), -1)
    along = places @ direction
    across = (places.square().sum(-1) - along.square()).clamp(min=0)
    envelope = torch.exp(-(along.square() + ASPECT**2 * across) / (2 * (0.56 * wavelength) ** 2))
    wave = envelope * torch.cos(2 * math.pi * along / wavelength)
    wave = wave - envelope * wave.sum() / envelope.sum()
    normed: torch.Tensor = wave / torch.linalg.vector_norm(wave)
    return normed


class _Paths(nn.Module):
    def __init__(self, n_in: int, width: int, n_dims: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(_path(k, n_in, width, n_dims) for k in _PATHS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([path(x) for path in self.paths], 1)


def _path(kernel: int, n_in: int, width: int, n_dims: int) -> nn.Module:
    """Return two blocks; filters are as large as ``kernel``, and cost as little as separable."""
    conv, layers = Conv[Conv.CONV, n_dims], []
    for n, n_out in pairwise([n_in, width, 2 * width]):
        layers += [
            conv(n, n_out, 1, bias=False),
            conv(n_out, n_out, kernel, padding=kernel // 2, groups=n_out),
            Norm[Norm.BATCH, n_dims](n_out),
            nn.ReLU(),
            Pool[Pool.MAX, n_dims](2),
        ]
    return nn.Sequential(*layers, Pool[Pool.ADAPTIVEAVG, n_dims](1), nn.Flatten(1))

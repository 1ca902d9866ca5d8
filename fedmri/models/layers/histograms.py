"""Histograms of edge directions and of intensities: features that nobody has to learn."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedmri.models.sizes import Sizes

N_DIRECTIONS = 6
SHARPNESS = 4
"""Power of the cosine by which an edge counts to a direction."""
LEAST = 1e-6
"""Strength of an edge, spread of intensities, and length of a histogram, below which is none."""
WITHIN = 2.5
"""Spreads of the intensities on either side of their mean where the outer bins begin."""


class EdgeHistograms(nn.Module):
    """From images to the root of mean edge strength by channel, direction and cell, length 1.

    Args:
        n_dims: Axes of an image, 2 or 3.
        n_cells: Cells along each axis.
    """

    directions: Tensor

    def __init__(self, n_dims: int, n_cells: int) -> None:
        super().__init__()
        self._n_dims, self._n_cells = n_dims, n_cells
        self.register_buffer("directions", _directions(n_dims), persistent=False)

    @property
    def n_features(self) -> int:
        """Features of a channel."""
        n_cells: int = self._n_cells**self._n_dims
        return N_DIRECTIONS * n_cells

    def forward(self, image: Tensor) -> Tensor:
        """Return features ``(B, C * n_features)`` of images ``(B, C, *shape)``."""
        slopes = torch.stack([_slope(image, axis + 2) for axis in range(self._n_dims)], dim=2)
        strength = slopes.square().sum(dim=2, keepdim=True).sqrt().clamp_min(LEAST)
        along = torch.einsum("ka,bca...->bck...", self.directions, slopes)
        edges = (along / strength).abs() ** SHARPNESS * strength
        pool = (
            functional.adaptive_avg_pool2d if self._n_dims == 2 else functional.adaptive_avg_pool3d
        )
        cells = pool(edges.flatten(1, 2), self._n_cells).sqrt().flatten(1)
        unit: Tensor = cells / cells.norm(dim=1, keepdim=True).clamp_min(LEAST)
        return unit


class IntensityHistograms(nn.Module):
    """From images to the root of the share of voxels by channel, box and bin, length 1 at most.

    The boxes are the whole image, and the one of half its sides in the middle. Intensities are
    standardised by those of their own channel. Voxels of exactly 0 are air and count nowhere.

    Args:
        n_dims: Axes of an image, 2 or 3.
        n_bins: Bins of a histogram; the outer two have no end.
    """

    def __init__(self, n_dims: int, n_bins: int) -> None:
        super().__init__()
        self._axes, self._n_bins = tuple(range(2, 2 + n_dims)), n_bins

    @property
    def n_features(self) -> int:
        """Features of a channel."""
        return 2 * self._n_bins

    def forward(self, image: Tensor) -> Tensor:
        """Return features ``(B, C * n_features)`` of images ``(B, C, *shape)``."""
        inside = (image != 0).to(image.dtype)
        n = inside.sum(self._axes, keepdim=True).clamp_min(1)
        apart = (image - (image * inside).sum(self._axes, keepdim=True) / n) * inside
        spread = (apart.square().sum(self._axes, keepdim=True) / n).sqrt().clamp_min(LEAST)
        values = apart / spread
        boxes = [(values, inside), (self._middle(values), self._middle(inside))]
        shares = torch.cat([self._shares(*box) for box in boxes], dim=2)
        unit: Tensor = (shares / (2 * image.shape[1])).sqrt().flatten(1)
        return unit

    def _middle(self, values: Tensor) -> Tensor:
        """Return the box of half the sides in the middle."""
        for axis in self._axes:
            n = values.shape[axis]
            values = values.narrow(axis, n // 4, max(1, n // 2))
        return values

    def _shares(self, values: Tensor, inside: Tensor) -> Tensor:
        """Return the share of voxels by bin, shape ``(B, C, n_bins)``."""
        n = inside.sum(self._axes)
        inner = torch.linspace(-WITHIN, WITHIN, self._n_bins + 1)[1:-1].tolist()
        below = [((values < edge) * inside).sum(self._axes) for edge in inner]
        up_to = torch.stack([torch.zeros_like(n), *below, n], dim=2)
        return up_to.diff(dim=2) / n.clamp_min(1)[..., None]


def fixed_features(histograms: EdgeHistograms | IntensityHistograms, sizes: Sizes) -> nn.Module:
    """Return the features with a linear layer on them."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["features"] = histograms
    layers["out"] = nn.Linear(sizes.n_channels * histograms.n_features, sizes.n_outputs)
    return nn.Sequential(layers)


def _slope(image: Tensor, axis: int) -> Tensor:
    """Return half the difference of a voxel's two neighbours; the border has itself as one."""
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, image.shape[axis] - 1, 1)
    padded = torch.cat([first, image, last], dim=axis)
    n = image.shape[axis]
    return (padded.narrow(axis, 2, n) - padded.narrow(axis, 0, n)) / 2


def _directions(n_dims: int) -> Tensor:
    """Return six unit vectors spread evenly: half a circle, or the corners of an icosahedron."""
    if n_dims == 2:
        angles = [math.pi * k / N_DIRECTIONS for k in range(N_DIRECTIONS)]
        return torch.tensor([(math.cos(a), math.sin(a)) for a in angles])
    g = (1 + math.sqrt(5)) / 2
    corners = [(0, 1, g), (0, -1, g), (1, g, 0), (-1, g, 0), (g, 0, 1), (g, 0, -1)]
    return torch.tensor(corners) / math.hypot(1, g)

"""Fixed features of a prepared image: nothing in them is learned or tuned."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from fedmri.data.batches.site_data import Voxels

Array = NDArray[np.float64]
Table = NDArray[np.float32]

GRID, EDGE_GRID = {2: 16, 3: 8}, {2: 8, 3: 4}
"""Cells along each axis of an image, by its number of axes."""
QUANTILES = np.linspace(0.05, 0.95, 10)
SCALES = (1.0, 2.0, 4.0)
"""Standard deviations of the smoothing around a voxel, in voxels."""


def image_features(image: Voxels) -> Array:
    """Return what a linear model sees of a whole image.

    Mean intensities and mean edge strengths on a coarse grid, and moments and quantiles of the
    intensities, of each channel. A missing modality gives zeros.

    Args:
        image: Prepared, shape ``(C, H, W)`` or ``(C, D, H, W)``.
    """
    n_axes = image.ndim - 1
    volume = torch.from_numpy(np.asarray(image, dtype=np.float32))
    flat = np.asarray(image, dtype=np.float64).reshape(len(image), -1)
    mean, deviation = flat.mean(axis=1), flat.std(axis=1)
    unit = (flat - mean[:, None]) / np.where(deviation > 0, deviation, 1)[:, None]
    edges = torch.stack([_edges(channel) for channel in volume])
    parts = [
        _on_grid(volume, GRID[n_axes]),
        _on_grid(edges, EDGE_GRID[n_axes]),
        np.quantile(flat, QUANTILES, axis=1),
        mean,
        deviation,
        (unit**3).mean(axis=1),
        (unit**4).mean(axis=1),
    ]
    return np.concatenate([np.ravel(part) for part in parts])


def _on_grid(volume: torch.Tensor, n_cells: int) -> Array:
    pool = functional.adaptive_avg_pool2d if volume.ndim == 3 else functional.adaptive_avg_pool3d
    return pool(volume[None], n_cells)[0].double().numpy()


def _edges(channel: torch.Tensor) -> torch.Tensor:
    """Return the norm of the gradient; an axis of one voxel has none."""
    axes = [axis for axis in range(channel.ndim) if channel.shape[axis] > 1]
    squares = [torch.gradient(channel, dim=axis)[0] ** 2 for axis in axes]
    return torch.stack(squares).sum(0).sqrt() if squares else torch.zeros_like(channel)


def voxel_features(image: Voxels) -> Table:
    """Return what a linear model sees of each voxel.

    Of each channel: its intensity, the same smoothed at three scales, its edge strength at two, and
    its difference from the image mirrored along each axis. Of its place: each coordinate from -1 to
    1, and its square.

    Args:
        image: Prepared, shape ``(C, H, W)`` or ``(C, D, H, W)``.

    Returns:
        Shape ``(n_voxels, n_features)``, voxels in the order of the flattened image.
    """
    columns: list[Voxels] = []
    for channel in np.asarray(image, dtype=np.float32):
        smooth = [ndimage.gaussian_filter(channel, scale) for scale in SCALES]
        columns += [channel, *smooth]
        columns += [_edges(torch.from_numpy(part)).numpy() for part in smooth[:2]]
        columns += [smooth[1] - np.flip(smooth[1], axis) for axis in range(channel.ndim)]
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in image.shape[1:]]
    for place in np.meshgrid(*axes, indexing="ij"):
        columns += [place, place**2]
    return np.stack([column.ravel() for column in columns], axis=1)

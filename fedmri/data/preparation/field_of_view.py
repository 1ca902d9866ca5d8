"""A scan at a wanted number of pixels: which part of it is shown, and how large its pixels become.

Only air beyond doubt is left out, and only to keep pixels finer. The label has no say: a field of
view that follows a lesion would tell the network where it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedmri.data.preparation.geometry import Grid
from fedmri.data.settings import PrepareConfig

AIR_SHARE = 0.02
"""Air lies below this share of the range from the lowest value to the 99.5th percentile."""
MARGIN = 2
"""Voxels kept on each side of what is not air."""

Box = tuple[np.ndarray, np.ndarray]
"""First voxel along each axis, and the one after the last; shapes ``(3,)``."""


def wanted_size(config: PrepareConfig, *, is_flat: bool) -> tuple[int, int, int]:
    """Return the pixels wanted along the axes of a canonical volume; 0 keeps an axis."""
    sizes = list(config.size) or [0, 0, 0]
    if len(sizes) == 2:
        sizes.insert(2 if is_flat else config.slice_axis, 0)
    return sizes[0], sizes[1], sizes[2]


def box_of_signal(values: np.ndarray) -> Box:
    """Return the box that holds all that is not air beyond doubt, with a margin.

    Where air is noisy or not dark, nothing is left out.

    Args:
        values: Image, shape ``(D, H, W)``; an axis of length 1 makes it a 2D image.
    """
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    places = np.argwhere(values > low + AIR_SHARE * (high - low))
    if not len(places):
        return np.zeros(3, dtype=int), np.array(values.shape)
    ends = places.min(axis=0) - MARGIN, places.max(axis=0) + 1 + MARGIN
    return ends[0].clip(0), np.minimum(ends[1], values.shape)


def joined(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around several."""
    return np.min([low for low, _ in boxes], axis=0), np.max([high for _, high in boxes], axis=0)


def sized(grid: Grid, sizes: Sequence[int], box: Box) -> tuple[Grid, list[float]]:
    """Return the grid at whose pixels a scan has the size wanted, and the middle of what it shows.

    Pixels are as long as wide, so that the aspect ratio stays. The whole field is shown where it
    fits without pixels coarser than the scan's own. Else air is left out, as far as pixels become
    finer by it and no finer than the scan's own: a scan that has the size is not resampled.

    Args:
        grid: Grid of the scan, canonical.
        sizes: Pixels wanted along each axis; 0 keeps an axis.
        box: What must be shown, in voxels.

    Returns:
        A grid of the whole field, and the middle of the box along each of its axes.
    """
    axes = [axis for axis in range(3) if sizes[axis]]
    spacing = np.array(grid.spacing_mm)
    if axes:
        spacing[axes] = _pixel_mm(grid, sizes, box, axes)
    scale = spacing / grid.spacing_mm
    shape = np.maximum(1, np.ceil(np.array(grid.shape) / scale - 1e-6)).astype(int)
    rows = np.array(grid.affine)
    middle = rows[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    rows[:3, :3] *= scale
    rows[:3, 3] += middle - rows[:3, :3] @ ((shape - 1) / 2)
    off_middle = (box[0] + box[1]) / 2 - np.array(grid.shape) / 2
    return Grid.of(shape.tolist(), rows), list(off_middle / scale + (shape - 1) / 2)


def _pixel_mm(grid: Grid, sizes: Sequence[int], box: Box, axes: Sequence[int]) -> float:
    own_mm = [grid.spacing_mm[axis] for axis in axes]
    wanted = [sizes[axis] for axis in axes]
    whole_mm = [grid.shape[axis] * mm for axis, mm in zip(axes, own_mm, strict=True)]
    shown_mm = [(box[1] - box[0])[axis] * mm for axis, mm in zip(axes, own_mm, strict=True)]
    finest = min(own_mm)
    coarsest = max(mm / n for mm, n in zip(whole_mm, wanted, strict=True))
    if coarsest <= finest:
        return float(coarsest)
    if max(mm / n for mm, n in zip(shown_mm, wanted, strict=True)) <= finest == max(own_mm):
        return float(finest)
    # one pixel less, for the middle of the box falls between pixels
    needed = max(mm / max(1, n - 1) for mm, n in zip(shown_mm, wanted, strict=True))
    return float(min(coarsest, max(needed, finest)))

"""The own grids of prepared training scans: what a network is planned from."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from fedmri.data.preparation.geometry import Grid
from fedmri.data.preparation.prepared import read_site

OwnSize = tuple[tuple[float, ...], tuple[int, ...]]
"""Voxel size in mm and sides in voxels: right to left, front to back, feet to head."""


def training_sizes(path: Path) -> list[OwnSize]:
    """Return voxel size and sides of each training scan of a prepared file, by axes of the head.

    Raises:
        DataError: The file cannot be read (D43).
    """
    scans = read_site(path).scans
    return [_in_order(scan.geometry.own) for scan in scans if scan.split == "train"]


def _in_order(grid: Grid) -> OwnSize:
    """Return the sizes by axes of the head; a 2D image keeps its two axes."""
    if grid.shape[2] == 1:
        return grid.spacing_mm[:2], grid.shape[:2]
    axes = nib.orientations.io_orientation(np.array(grid.affine))[:, 0].astype(int)
    order = [int(np.flatnonzero(axes == goal)[0]) for goal in range(3)]
    spacing = tuple(grid.spacing_mm[axis] for axis in order)
    return spacing, tuple(grid.shape[axis] for axis in order)

"""nnU-Net's plan of a network in a simulation: sums over sites, and no pool of scans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from fedmri.data.preparation.geometry import Grid
from fedmri.data.preparation.prepared import read_site
from fedmri.harmonize.images.fingerprint import (
    SHAPE,
    SPACING,
    TARGET,
    TENTH,
    Fingerprint,
    ScanGrid,
    Vector,
)
from fedmri.harmonize.sums import Arrays, run
from fedmri.models.planning import Spacings, UNetPlan, planned, target_spacing_mm


def plan_unet(sites: Sequence[Path], n_outputs: int) -> UNetPlan:
    """Return the U-Net that fits the training scans of all sites, from sums over sites alone.

    Args:
        sites: Prepared file of each site, as a run folder has them in ``prepared/``.
        n_outputs: Background and classes.

    Raises:
        DataError: A file cannot be read (D43).
        HarmonizeError: There is no training scan at any site (H20).
        ConfigError: Scans are too small for three levels (C01).
    """
    grids = [training_grids(path) for path in sites]
    found = fingerprint(grids)
    return planned(_values(found[TARGET]), _values(found[SHAPE]), n_outputs)


def fingerprint(sites: Sequence[Sequence[ScanGrid]]) -> Arrays:
    """Return voxel sizes and sides over all sites' scans; see ``Fingerprint``."""
    n_dims = max((len(scan.shape) for scans in sites for scan in scans), default=3)
    stage = Fingerprint(n_dims, _target)
    found = run(stage, sites)
    return {name: found[name] for name in (SPACING, TENTH, TARGET, SHAPE)}


def training_grids(path: Path) -> list[ScanGrid]:
    """Return the own grids of a site's training scans, with axes in the order of the head."""
    scans = read_site(path).scans
    return [_in_order(scan.geometry.own) for scan in scans if scan.split == "train"]


def _in_order(grid: Grid) -> ScanGrid:
    """Return right to left, front to back, feet to head; a 2D image keeps its two axes."""
    if grid.shape[2] == 1:
        return ScanGrid(grid.spacing_mm[:2], grid.shape[:2])
    axes = nib.orientations.io_orientation(np.array(grid.affine))[:, 0].astype(int)
    order = [int(np.flatnonzero(axes == goal)[0]) for goal in range(3)]
    spacing = tuple(grid.spacing_mm[axis] for axis in order)
    return ScanGrid(spacing, tuple(grid.shape[axis] for axis in order))


def _target(median: Vector, tenth: Vector, shape: Vector) -> Vector:
    found = Spacings(_values(median), _values(tenth), _values(shape))
    return np.array(target_spacing_mm(found))


def _values(numbers: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(number) for number in numbers)

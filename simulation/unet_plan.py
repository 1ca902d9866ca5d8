"""nnU-Net's plan of a network in a simulation: sums over sites, and no pool of scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedmri.data.preparation.own_grids import training_sizes
from fedmri.harmonize.images.fingerprint import (
    SHAPE,
    SPACING,
    TARGET,
    TENTH,
    Fingerprint,
    ScanGrid,
)
from fedmri.harmonize.sums import Arrays, run
from fedmri.models.planning import UNetPlan, chosen_spacing_mm, planned


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
    return planned(found[TARGET].tolist(), found[SHAPE].tolist(), n_outputs)


def fingerprint(sites: Sequence[Sequence[ScanGrid]]) -> Arrays:
    """Return voxel sizes and sides over all sites' scans; see ``Fingerprint``."""
    n_dims = max((len(scan.shape) for scans in sites for scan in scans), default=3)
    stage = Fingerprint(n_dims, chosen_spacing_mm)
    found = run(stage, sites)
    return {name: found[name] for name in (SPACING, TENTH, TARGET, SHAPE)}


def training_grids(path: Path) -> list[ScanGrid]:
    """Return the own grids of a site's training scans, with axes in the order of the head."""
    return [ScanGrid(*size) for size in training_sizes(path)]

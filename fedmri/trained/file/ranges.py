"""What training scans were like, in a few numbers, and how far another scan is from that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedmri.harmonize.images.nyul import standard_percentiles

if TYPE_CHECKING:  # a server that writes a card has no need of what reads scans
    from fedmri.data.preparation.geometry import Grid
    from fedmri.data.preparation.prepared import PreparedScan

Span = tuple[float, float]
"""Lowest and highest value."""

N_LOOKED_AT = 64
"""Scans of a site whose intensities are looked at, evenly spaced."""


@dataclass(frozen=True)
class Ranges:
    """What the training scans of a model were like.

    Attributes:
        n_scans: Scans behind the numbers.
        spacing_mm: Voxel size of the scans' own grids, by axis: left to right, back to front, foot
            to head. Empty for pictures.
        extent_mm: Length of the field of view along the same axes.
        percentiles: Mean of the percentiles of ``harmonize.nyul`` on a scale of 0 to 100, for each
            modality; empty for one that no scan has.
        distances: Largest mean distance of a scan's percentiles from that mean, by modality.
    """

    n_scans: int
    spacing_mm: tuple[Span, ...]
    extent_mm: tuple[Span, ...]
    percentiles: tuple[tuple[float, ...], ...]
    distances: tuple[float, ...]


def ranges_of(paths: Iterable[Path]) -> Ranges | None:
    """Return what the training scans of prepared sites are like; None where there are none.

    Args:
        paths: Files of ``write_site``.

    Raises:
        DataError: A site's file or a cached array is damaged (D43, D44).
    """
    from fedmri.data.preparation.prepared import read_site

    scans = [[s for s in read_site(path).scans if s.split == "train"] for path in paths]
    every = [scan for of_site in scans for scan in of_site]
    if not every:
        return None
    few = [scan for of_site in scans for scan in _spaced(of_site)]
    volumes = [scan.geometry.own for scan in every if len(scan.shape) == 4]
    sizes = np.array([[spacing_mm(grid), extent_mm(grid)] for grid in volumes])
    spans = [_spans(sizes[:, part]) if len(sizes) else () for part in (0, 1)]
    channels = [_channel(few, number) for number in range(every[0].shape[0])]
    means = tuple(tuple(found.mean(axis=0).tolist()) if len(found) else () for found in channels)
    far = tuple(
        float(np.abs(found - found.mean(axis=0)).mean(axis=1).max()) if len(found) else 0.0
        for found in channels
    )
    return Ranges(len(every), spans[0], spans[1], means, far)


def spacing_mm(grid: Grid) -> tuple[float, ...]:
    """Return a grid's voxel size along left to right, back to front and foot to head."""
    return _along_body(grid, grid.spacing_mm)


def extent_mm(grid: Grid) -> tuple[float, ...]:
    """Return the length of a grid's field of view along the same axes."""
    lengths = [n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True)]
    return _along_body(grid, lengths)


def percentiles_of(channel: np.ndarray) -> np.ndarray | None:
    """Return the percentiles of a prepared channel's head, or None where it has no contrast."""
    return standard_percentiles(channel[channel != 0])


def _along_body(grid: Grid, values: Sequence[float]) -> tuple[float, ...]:
    import nibabel as nib

    order = np.argsort(nib.io_orientation(np.array(grid.affine))[:, 0])
    return tuple(float(values[axis]) for axis in order)


def _channel(scans: Iterable[PreparedScan], number: int) -> np.ndarray:
    from fedmri.data.preparation.cache import open_array

    found = (percentiles_of(open_array(scan.image)[number]) for scan in scans)
    return np.array([values for values in found if values is not None])


def _spaced(scans: Sequence[PreparedScan]) -> list[PreparedScan]:
    n_taken = min(N_LOOKED_AT, len(scans))
    return [scans[number * len(scans) // n_taken] for number in range(n_taken)]


def _spans(values: np.ndarray) -> tuple[Span, ...]:
    ends = zip(values.min(axis=0).tolist(), values.max(axis=0).tolist(), strict=True)
    return tuple((low, high) for low, high in ends)

"""The fingerprint of a data set that nobody holds as a whole: voxel sizes and sides, by sums.

nnU-Net plans its network from medians over pooled scans: Isensee et al. 2021,
doi:10.1038/s41592-020-01008-z. Counts in bins that are refined give the same medians without the
pool; intensities have ``Quantiles`` and ``Moments`` of the same room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedmri.harmonize.images.quantiles import QUANTILES, Image, Quantiles
from fedmri.harmonize.sums import Arrays

SPACING, TENTH, SHAPE, TARGET = "spacing_mm", "tenth_mm", "shape", "target_mm"
TENTH_SHARE = 0.1
_ABOVE = 1e-9
"""Two order statistics around the middle make the median: of ranks ``ceil(n / 2)`` and the next."""
_SHARES = (TENTH_SHARE, 0.5, 0.5 + _ABOVE)
_N_HALF = 4

Vector = NDArray[np.float64]
Choice = Callable[[Vector, Vector, Vector], Vector]
"""Median voxel sizes, their 10th percentiles and median sides to the voxel size of resampling."""


@dataclass(frozen=True)
class ScanGrid:
    """Voxel size in mm and sides in voxels of a scan, one number for each axis."""

    spacing_mm: tuple[float, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Fingerprint:
    """Medians over all sites' scans as a stage of sums; see ``fedmri.harmonize.sums``.

    The first four steps find voxel sizes and sides. The next four find the median sides at the
    voxel size that ``choose`` makes of them, since the median of scaled sides is no scaled median.
    A median lies within a relative 1e-8 of that of the pooled scans. The 10th percentile is the
    order statistic of rank ``ceil(n / 10)``, without interpolation.

    Bins are refined to a single scan: a few scans of a site can be told. Secure sums and a floor
    for small cells belong to whoever asks sites for them.

    Attributes:
        n_dims: Axes of a scan.
        choose: Voxel size to resample to.
    """

    n_dims: int
    choose: Choice
    n_steps: int = 2 * _N_HALF

    @cached_property
    def _first(self) -> Quantiles:
        return Quantiles(2 * self.n_dims, _SHARES, _N_HALF)

    @cached_property
    def _second(self) -> Quantiles:
        return Quantiles(self.n_dims, _SHARES, _N_HALF)

    def site_sums(self, step: int, data: Iterable[ScanGrid], shared: Arrays) -> Arrays:
        """Return how many scans lie in each bin, by axis."""
        if step < _N_HALF:
            rows = ([*scan.spacing_mm, *map(float, scan.shape)] for scan in data)
            return self._first.site_sums(step, map(_as_image, rows), shared)
        rows = (
            [n * mm / goal for n, mm, goal in zip(scan.shape, scan.spacing_mm, goals, strict=True)]
            for goals in (shared[TARGET],)
            for scan in data
        )
        return self._second.site_sums(step - _N_HALF, map(_as_image, rows), shared)

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return the edges of finer bins; at last voxel size, 10th percentile, target and sides.

        Raises:
            HarmonizeError: There is no scan at any site (H20).
        """
        if step < _N_HALF:
            found = self._first.combine(step, total, shared)
            return self._chosen(found[QUANTILES]) if QUANTILES in found else found
        kept = {name: shared[name] for name in (SPACING, TENTH, TARGET)}
        found = self._second.combine(step - _N_HALF, total, shared)
        if QUANTILES not in found:
            return {**kept, **found}
        return {**kept, SHAPE: _median(found[QUANTILES])}

    def _chosen(self, quantiles: Vector) -> Arrays:
        median, tenth = _median(quantiles), quantiles[: self.n_dims, 0]
        spacing, shape = median[: self.n_dims], median[self.n_dims :]
        return {SPACING: spacing, TENTH: tenth, TARGET: self.choose(spacing, tenth, shape)}


def _as_image(row: list[float]) -> Image:
    return np.array(row, dtype=np.float32)[:, None]


def _median(quantiles: Vector) -> Vector:
    median: Vector = quantiles[:, 1:].mean(axis=1)
    return median

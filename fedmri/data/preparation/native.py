"""A scan's own grid as scoring needs it: the whole truth, and predictions brought back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedmri.data.preparation.cache import load_truth
from fedmri.data.preparation.geometry import Geometry, Grid
from fedmri.data.preparation.regrid import restore


@dataclass(frozen=True)
class Native:
    """The grid of a scan's label file.

    Attributes:
        geometry: The way from there to the prepared grid.
        slices: Positions that are used along the first prepared axis, or None for a whole scan.
        file: Where the cache keeps the truth.
    """

    geometry: Geometry
    slices: tuple[int, ...] | None
    file: Path

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel size along the axes of ``truth``."""
        spacing_mm = self._grid.spacing_mm
        return tuple(spacing_mm[axis] for axis in _axes(self._grid.shape))

    def truth(self) -> np.ndarray:
        """Return the label map as its file has it, uint8; an axis of one voxel is left out.

        Raises:
            DataError: The cache lost it (D44).
        """
        return _without_flat_axes(load_truth(self.file).reshape(self._grid.shape))

    def restored(self, shares: np.ndarray) -> np.ndarray:
        """Return the label map of a prediction, on the grid of ``truth``.

        What was cropped away is background. A slice that is not used takes the prediction of the
        nearest used one, up to half the step between these, and is background beyond.

        Args:
            shares: Probabilities of background and classes for the scan's examples in order:
                shape ``(1, 1 + K, D, H, W)`` for a volume, ``(1, 1 + K, H, W)`` for a picture,
                ``(n, 1 + K, H, W)`` for slices.

        Returns:
            uint8, shape of ``truth``.
        """
        prepared = self.geometry.prepared
        whole = assembled(shares, self.slices, prepared)
        return _without_flat_axes(restore(whole, prepared, self._grid))

    @property
    def _grid(self) -> Grid:
        return self.geometry.truth or self.geometry.own


def assembled(shares: np.ndarray, slices: Sequence[int] | None, prepared: Grid) -> np.ndarray:
    """Return the probabilities of a scan's examples, put together on the prepared grid.

    Args:
        shares: As for ``Native.restored``.
        slices: Positions that are used along the first prepared axis, or None for a whole scan.
        prepared: The prepared grid.

    Returns:
        Shape ``(1 + K, *prepared.shape)``; a slice that is not used is filled in by ``spread``.
    """
    if slices is None:
        volume: np.ndarray = shares[0].reshape(-1, *prepared.shape)
        return volume
    return spread(np.moveaxis(shares, 0, 1), slices, prepared.shape[0])


def spread(shares: np.ndarray, slices: Sequence[int], n_total: int) -> np.ndarray:
    """Return probabilities of all slices from those of the used ones.

    Args:
        shares: Shape ``(1 + K, n, H, W)``.
        slices: Position of each of the ``n``, ascending, a fixed step apart.
        n_total: Slices of the prepared volume.

    Returns:
        Shape ``(1 + K, n_total, H, W)``.
    """
    if len(slices) == n_total:
        return shares
    apart = np.abs(np.arange(n_total)[:, None] - np.array(slices))
    reach = (slices[1] - slices[0]) // 2 if len(slices) > 1 else 0
    whole = shares[:, apart.argmin(axis=1)]
    is_far = apart.min(axis=1) > reach
    whole[:, is_far] = 0
    whole[0, is_far] = 1
    return whole


def _axes(shape: Sequence[int]) -> list[int]:
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    return axes if len(axes) > 1 else [0, 1]


def _without_flat_axes(values: np.ndarray) -> np.ndarray:
    axes = _axes(values.shape)
    return values.reshape([values.shape[axis] for axis in axes])

"""Where a scan's voxels lie: its own grid, the prepared grid, and the way between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Grid:
    """Positions of voxels.

    Attributes:
        shape: Voxels along each of three axes; the last is 1 for a 2D image.
        affine: From voxel to world, RAS+ in mm, four rows of four; the identity for a 2D image.
    """

    shape: tuple[int, ...]
    affine: Matrix

    @classmethod
    def of(cls, shape: Sequence[int], affine: ArrayLike) -> Grid:
        """Return the grid of an array; a 2D image lies in its own plane, one pixel a unit."""
        is_flat = len(shape) == 2
        rows = np.eye(4) if is_flat else np.asarray(affine, dtype=float)
        sizes = (*(int(n) for n in shape), *[1] * (3 - len(shape)))
        return cls(sizes, tuple(tuple(float(value) for value in row) for row in rows))

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Grid:
        """Return the grid that ``to_json`` wrote."""
        return cls.of(row["shape"], row["affine"])

    def to_json(self) -> dict[str, Any]:
        """Return the grid as lists, for JSON."""
        return {"shape": list(self.shape), "affine": [list(row) for row in self.affine]}

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel size along each axis."""
        return tuple(float(mm) for mm in nib.affines.voxel_sizes(np.array(self.affine)))

    def moved(self, source: int, goal: int) -> Grid:
        """Return the grid of an array whose axis is moved, as ``np.moveaxis`` does."""
        order = [axis for axis in range(3) if axis != source]
        order.insert(goal, source)
        rows = np.array(self.affine)
        rows[:, :3] = rows[:, order]
        return Grid.of([self.shape[axis] for axis in order], rows)

    def cut(self, windows: Sequence[tuple[int, int, int]]) -> Grid:
        """Return the grid of an array cropped or padded to its windows (see ``windows.cut``)."""
        shift = [start - before for start, before, _ in windows]
        rows = np.array(self.affine)
        rows[:3, 3] += rows[:3, :3] @ shift
        return Grid.of([size for _, _, size in windows], rows)

    def voxels_in(self, source: Grid) -> np.ndarray:
        """Return the matrix, shape ``(4, 4)``, from this grid's voxels to those of another."""
        return np.asarray(np.linalg.solve(np.array(source.affine), np.array(self.affine)))

    def corners(self) -> np.ndarray:
        """Return the centres of the eight voxels at the corners, homogeneous, shape ``(4, 8)``."""
        ends = product(*[(0, n - 1) for n in self.shape])
        return np.array([(*end, 1) for end in ends], dtype=float).T


@dataclass(frozen=True)
class Geometry:
    """What preparation did to the places of voxels, as a value that can be undone.

    Orientation, resampling, crop, padding and the slice axis are all in the affine of the prepared
    grid: voxels of both grids meet in the world.

    Attributes:
        own: Grid of the scan's first image, as its file has it.
        prepared: Grid of the prepared arrays, slice axis first where they are sliced.
        truth: Grid of the label map's file, or None.
    """

    own: Grid
    prepared: Grid
    truth: Grid | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Geometry:
        """Return the geometry that ``to_json`` wrote."""
        grids = {name: value and Grid.from_json(value) for name, value in row.items()}
        return cls(**grids)

    def to_json(self) -> dict[str, Any]:
        """Return the geometry as nested lists, for JSON."""
        return {name: grid and grid.to_json() for name, grid in vars(self).items()}

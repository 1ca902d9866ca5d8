"""Heads of the embedded data set: the MNI152 template, deformed and aged for each subject."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label
from torch.nn.functional import grid_sample

Volume = NDArray[np.float32]

ATLAS_MM = 2.0
ATLAS_ORIGIN_MM = np.array([-97.5, -133.5, -71.5])  # centre of the first 2 mm block of the template
NECK_MM = 24.0  # the template ends in the brain stem; its last slice goes on as a neck
VENTRICLE_REACH_MM = 14.0
BRAIN_CENTRE_MM = np.array([0.0, -18.0, 8.0])


@dataclass(frozen=True)
class Grid:
    """Voxels of a volume in head coordinates (mm; right, anterior, superior)."""

    shape: tuple[int, int, int]
    spacing_mm: float
    origin_mm: tuple[float, float, float]

    @classmethod
    def around_head(cls, spacing_mm: float) -> Grid:
        """Return the grid that holds a head with a margin of air."""
        low, high = np.array([-96.0, -130.0, -84.0]), np.array([96.0, 100.0, 106.0])
        n_x, n_y, n_z = (int(n) for n in np.floor((high - low) / spacing_mm) + 1)
        return cls((n_x, n_y, n_z), spacing_mm, (low[0], low[1], low[2]))

    def coordinates(self) -> Volume:
        """Return the position of each voxel, shape ``(3, X, Y, Z)``, in mm."""
        axes = [
            np.arange(n, dtype=np.float32) * self.spacing_mm + start
            for n, start in zip(self.shape, self.origin_mm, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


@dataclass(frozen=True)
class Head:
    """One subject's tissues on a grid, before any lesion or scanner.

    Attributes:
        tissues: Fraction of each tissue by name, each of the grid's shape; what is left is air.
        positions_mm: Where each voxel lies in the head, shape ``(3, X, Y, Z)``.
        ventricle_mm: Distance to the ventricles, as in the undeformed template.
        depth_mm: Distance inwards from the brain's surface, as in the undeformed template.
    """

    tissues: dict[str, Volume]
    positions_mm: Volume
    ventricle_mm: Volume
    depth_mm: Volume


def make_head(grid: Grid, age: float, random: np.random.Generator) -> Head:
    """Return a subject of the given age: own pose, shape, ventricles and sulci.

    With age the ventricles widen, the brain shrinks inside the skull and the sulci open; the
    amounts scatter between subjects, so that age can be estimated but not read off.
    """
    atlas = _atlas()
    head_mm = _deformed(grid, random)
    cranium, bone, fat, muscle, ventricle_mm, depth_mm = _sampled(atlas.head, head_mm)
    away = np.asarray(np.gradient(ventricle_mm, grid.spacing_mm), dtype=np.float32)
    aging = max(0.0, (age - 20) / 65)
    widening = 0.3 + 6.0 * aging**1.3 + 0.9 * random.normal()
    shrinking = 0.045 * aging + 0.008 * random.normal()
    opening = np.clip(0.12 + 0.34 * aging + 0.05 * random.normal(), 0.0, 0.6)
    centre = BRAIN_CENTRE_MM[:, None, None, None]
    brain_mm = centre + (head_mm - centre) * (1 + shrinking)
    brain_mm -= widening * np.exp(-ventricle_mm / VENTRICLE_REACH_MM) * away
    grey, white = _sampled(atlas.brain, brain_mm.astype(np.float32))
    solid = np.clip(grey + white, 1e-6, None)
    kept = np.clip((solid - opening) / (1 - opening), 0, 1) * cranium / solid
    grey, white = grey * kept, white * kept
    fluid = np.clip(cranium - grey - white, 0, 1)
    tissues = {"csf": fluid, "grey": grey, "white": white}
    tissues |= {"bone": bone, "fat": fat, "muscle": muscle}
    return Head(tissues, head_mm, ventricle_mm, depth_mm)


def smooth_field(shape: tuple[int, int, int], n_knots: int, random: np.random.Generator) -> Volume:
    """Return a smooth random field of unit variance at its knots, from cubic B-splines.

    Source:
        Rueckert et al. 1999, doi:10.1109/42.796284 (free-form deformation).
    """
    weights = random.normal(size=(n_knots + 3,) * 3)
    x, y, z = (_spline_basis(n, n_knots) for n in shape)
    field = np.einsum("ia,jb,kc,abc->ijk", x, y, z, weights, optimize=True)
    return np.asarray(field * 1.6, dtype=np.float32)  # the basis averages: restores the variance


@dataclass(frozen=True)
class _Atlas:
    """Template maps: ``head`` follows the skull, ``brain`` also shrinks with age."""

    head: torch.Tensor
    brain: torch.Tensor


@lru_cache(maxsize=1)
def _atlas() -> _Atlas:
    from nilearn.datasets import (  # slow to import, needed once
        load_mni152_gm_template,
        load_mni152_template,
        load_mni152_wm_template,
    )

    brain, grey, white = (
        _halved(np.asarray(load(resolution=1).dataobj, dtype=np.float32))
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    )
    cranium = _closed(brain > 0.2, 10.0)
    cranium = _dilated(cranium, 2.5)
    outside_mm = _near(~cranium, 13.0)
    head = _closed(outside_mm < 13.0, 30.0)
    skin_mm = _near(head, 5.0)
    bone = (outside_mm > 0) & (outside_mm <= 6.0)
    fat = head & (outside_mm > 6.0) & (skin_mm <= 5.0)
    muscle = head & (outside_mm > 6.0) & ~fat
    depth_mm = _distance(cranium)
    ventricle_mm = _distance(~_ventricles(grey + white, depth_mm))
    maps = np.stack([cranium, bone, fat, muscle, ventricle_mm, depth_mm])
    return _Atlas(
        head=torch.from_numpy(maps.astype(np.float32)),
        brain=torch.from_numpy(np.stack([grey, white])),
    )


def _halved(volume: Volume) -> Volume:
    """Average blocks of 2 x 2 x 2 mm and go on with the last slice for the neck."""
    x, y, z = (n // 2 for n in volume.shape)
    blocks = volume[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))
    return np.pad(blocks, ((0, 0), (0, 0), (int(NECK_MM / ATLAS_MM), 0)), mode="edge")


def _distance(inside: NDArray[np.bool_]) -> Volume:
    distance = distance_transform_edt(inside, sampling=ATLAS_MM)
    return np.asarray(distance, dtype=np.float32)


def _near(inside: NDArray[np.bool_], reach_mm: float) -> Volume:
    """Return the same distances up to a reach, and infinity beyond it, in a fifth of the time."""
    n_reached = int(reach_mm / ATLAS_MM)
    squared = np.where(inside, np.int16(3 * (n_reached + 1) ** 2), np.int16(0))
    for axis in range(squared.ndim):
        before = np.moveaxis(squared, axis, 0)
        nearest = before.copy(order="K")
        for step in range(1, n_reached + 1):
            np.minimum(nearest[step:], before[:-step] + np.int16(step**2), out=nearest[step:])
            np.minimum(nearest[:-step], before[step:] + np.int16(step**2), out=nearest[:-step])
        squared = np.moveaxis(nearest, 0, axis)
    distance = np.asarray(ATLAS_MM * np.sqrt(squared, dtype=np.float64), dtype=np.float32)
    return np.where(distance <= reach_mm, distance, np.float32(np.inf))


def _dilated(inside: NDArray[np.bool_], by_mm: float) -> NDArray[np.bool_]:
    return _near(~inside, by_mm) <= by_mm


def _closed(inside: NDArray[np.bool_], by_mm: float) -> NDArray[np.bool_]:
    """Fill dents narrower than twice ``by_mm``, as a morphological closing with a ball."""
    n_pad = int(np.ceil(by_mm / ATLAS_MM)) + 1
    padded = np.pad(inside, n_pad, mode="edge")
    closed = _near(_dilated(padded, by_mm), by_mm) > by_mm
    keep = slice(n_pad, -n_pad)
    return closed[keep, keep, keep]


def _ventricles(solid: Volume, depth_mm: Volume) -> NDArray[np.bool_]:
    """Return the largest fluid spaces deep in the brain."""
    parts, _ = label((solid < 0.4) & (depth_mm > 24.0))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.isin(parts, np.flatnonzero(sizes >= 0.1 * sizes.max()))


def _deformed(grid: Grid, random: np.random.Generator) -> Volume:
    """Return the template position that each voxel shows, shape ``(3, X, Y, Z)``, in mm."""
    angles = np.radians(random.normal(scale=3.5, size=3))
    scale = 1 + random.normal(scale=0.035) + random.normal(scale=0.025, size=3)
    shift = random.normal(scale=[2.0, 3.0, 2.5])
    matrix = _rotation(angles) @ np.diag(1 / scale)
    centred = grid.coordinates() - BRAIN_CENTRE_MM.astype(np.float32)[:, None, None, None]
    posed = np.einsum("ab,bxyz->axyz", matrix.astype(np.float32), centred, optimize=True)
    posed += (BRAIN_CENTRE_MM - shift).astype(np.float32)[:, None, None, None]
    coarse = np.stack([smooth_field(grid.shape, 4, random) for _ in range(3)])
    fine = np.stack([smooth_field(grid.shape, 8, random) for _ in range(3)])
    return np.asarray(posed + 3.0 * coarse + 1.2 * fine, dtype=np.float32)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        step = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        step[first, first] = step[second, second] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ step
    return matrix


@lru_cache(maxsize=64)
def _spline_basis(n_voxels: int, n_knots: int) -> NDArray[np.float64]:
    """Return cubic B-spline weights of ``n_knots + 3`` knots, shape ``(n_voxels, n_knots + 3)``."""
    from scipy.interpolate import BSpline  # slow to import; most processes make no heads

    step = 1.0 / n_knots
    knots = np.arange(-3, n_knots + 4) * step
    positions = (np.arange(n_voxels) + 0.5) / n_voxels
    return np.asarray(BSpline.design_matrix(positions, knots, 3).toarray())


def _sampled(maps: torch.Tensor, at_mm: Volume) -> list[Volume]:
    """Return each map, trilinearly interpolated at the given positions."""
    n_voxels = np.array(maps.shape[1:])
    origin = ATLAS_ORIGIN_MM - [0.0, 0.0, NECK_MM]
    scaled = [
        (2 / ((n_voxels[axis] - 1) * ATLAS_MM)) * (at_mm[axis] - origin[axis]) - 1
        for axis in (2, 1, 0)  # grid_sample wants the last axis first
    ]
    where = torch.from_numpy(np.stack(scaled, axis=-1).astype(np.float32))
    found = grid_sample(maps[None], where[None], padding_mode="border", align_corners=True)
    return list(found[0].numpy())

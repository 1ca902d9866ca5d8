"""Lesions of the embedded data set: three kinds that differ by shape, texture and place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.data.synthetic.anatomy import Head, Volume, smooth_field

LESIONS = ("mass", "spots", "wedge")
LOWEST_MM = -22.0  # below it a short field of view may end
EDGE_MM = 1.2


@dataclass(frozen=True)
class Lesion:
    """Share of each voxel that is diseased.

    Attributes:
        solid: Swollen or scarred tissue, 0 to 1, of the grid's shape.
        core: Fluid-like dead tissue inside it, 0 to 1; together at most 1.
    """

    solid: Volume
    core: Volume


def make_lesion(kind: str, head: Head, random: np.random.Generator) -> Lesion:
    """Return a lesion of one of the three ``LESIONS``, inside the brain.

    ``mass`` is one irregular ball in the white matter, often with a dead core; ``spots`` are many
    small ovals beside the ventricles; ``wedge`` is a cone with its base on the cortex. They share
    their range of volume and brightness, so that neither tells the kind.
    """
    extent, core = _SHAPES[kind](head, random)
    brain = head.tissues["grey"] + head.tissues["white"]
    extent = np.asarray(extent * np.clip(brain * 1.5, 0, 1), dtype=np.float32)
    return Lesion(solid=extent * (1 - core), core=extent * core)


def _mass(head: Head, random: np.random.Generator) -> tuple[Volume, Volume]:
    radius_mm = random.uniform(13.0, 20.0)
    centre = _place(head, (head.tissues["white"] > 0.6) & (head.depth_mm > 0.9 * radius_mm), random)
    ripple = smooth_field(head.depth_mm.shape, 12, random)
    distance_mm = _distance_mm(head, centre) + 2.5 * ripple
    has_core = random.random() < 0.6
    core_mm = radius_mm * random.uniform(0.35, 0.6) if has_core else -20.0
    return _inside(radius_mm - distance_mm), _inside(core_mm - distance_mm)


def _spots(head: Head, random: np.random.Generator) -> tuple[Volume, Volume]:
    near = (head.ventricle_mm > 2.0) & (head.ventricle_mm < 16.0)
    white = head.tissues["white"] > 0.6
    extent = np.zeros_like(head.depth_mm)
    for _ in range(random.integers(16, 30)):
        is_near = random.random() < 0.75
        centre = _place(head, white & near if is_near else white, random)
        radius_mm = random.uniform(3.8, 6.8)
        stretch = random.uniform(0.75, 1.35, size=3)
        distance_mm = _distance_mm(head, centre, stretch)
        np.maximum(extent, _inside(radius_mm - distance_mm), out=extent)
    return extent, np.zeros_like(extent)


def _wedge(head: Head, random: np.random.Generator) -> tuple[Volume, Volume]:
    grey = (head.tissues["grey"] > 0.3) & (head.positions_mm[2] > LOWEST_MM)
    rind = grey & (head.depth_mm <= np.quantile(head.depth_mm[grey], 0.15))
    base = _place(head, rind, random)
    apex = base + (np.array([0.0, -18.0, 12.0]) - base) * random.uniform(0.5, 0.65)
    axis = base - apex
    height_mm = float(np.linalg.norm(axis))
    axis = axis / height_mm
    offset = head.positions_mm - apex[:, None, None, None].astype(np.float32)
    along_mm = np.einsum("a,axyz->xyz", axis.astype(np.float32), offset)
    across_mm = np.sqrt(np.clip((offset**2).sum(axis=0) - along_mm**2, 0, None))
    angle = np.radians(random.uniform(22.0, 32.0))
    ripple = smooth_field(head.depth_mm.shape, 12, random)
    side_mm = along_mm * np.tan(angle) - across_mm + 1.5 * ripple
    extent = _inside(side_mm) * _inside(along_mm)
    has_core = random.random() < 0.4
    core_mm = side_mm - random.uniform(4.0, 7.0) if has_core else np.full_like(side_mm, -20.0)
    return extent, _inside(core_mm)


def _place(
    head: Head, allowed: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float64]:
    """Return the position of a random voxel among the allowed ones that are high enough."""
    height_mm = head.positions_mm[2]
    found = np.flatnonzero(allowed & (height_mm > LOWEST_MM))
    chosen = found[random.integers(len(found))]
    return head.positions_mm.reshape(3, -1)[:, chosen].astype(np.float64)


def _distance_mm(
    head: Head, centre: NDArray[np.float64], stretch: NDArray[np.float64] | float = 1.0
) -> Volume:
    scale = np.broadcast_to(stretch, 3)[:, None, None, None].astype(np.float32)
    offset = (head.positions_mm - centre[:, None, None, None].astype(np.float32)) / scale
    return np.asarray(np.sqrt((offset**2).sum(axis=0)), dtype=np.float32)


def _inside(depth_mm: NDArray[np.floating]) -> Volume:
    """Return how much of a voxel lies inside an edge that is ``depth_mm`` away."""
    share = 1 / (1 + np.exp(-np.clip(depth_mm / EDGE_MM, -30, 30)))
    return np.asarray(share, dtype=np.float32)


_SHAPES: dict[str, Callable[[Head, np.random.Generator], tuple[Volume, Volume]]] = {
    "mass": _mass,
    "spots": _spots,
    "wedge": _wedge,
}

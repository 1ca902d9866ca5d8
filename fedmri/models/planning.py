"""The U-Net that fits a data set's voxels: patch, strides and kernels by the rules of nnU-Net.

Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; the rules are those of version 2's planner. It
estimates memory by the numbers in all feature maps, and so does this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import require
from fedmri.models.voxel.dynunet import DynUNet, level_widths

LEAST_EDGE = 4
"""Least side of the lowest level, in voxels."""
MOST_NUMBERS = {2: 85_000_000.0, 3: 560_000_000.0}
"""Numbers in the feature maps of one patch, by dimensions, that fit 8 GB at a batch of 2 or 12."""
_FIRST_SIDE = {2: 2048.0, 3: 256.0}
"""Side of a cube (square) that has the first guess's volume, in voxels."""
_ANISOTROPIC = 3.0
_NEAR = 2.0
"""Axes whose voxels are within this factor of the finest are pooled, and convolved, together."""
_BASE_WIDTH = 32
_BARELY = 1 - 1e-6
"""Medians over sites are known this closely: a side of 128.00001 voxels is one of 128."""
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Spacings:
    """What is known of the voxels of all scans, one number for each axis.

    Attributes:
        median_mm: Median voxel size.
        tenth_mm: 10th percentile of the voxel size.
        median_shape: Median sides, in voxels.
    """

    median_mm: tuple[float, ...]
    tenth_mm: tuple[float, ...]
    median_shape: tuple[float, ...]


@dataclass(frozen=True)
class Topology:
    """How a patch is halved until it is small.

    Attributes:
        strides: Stride into each level, from the image down.
        kernels: Kernel of each level.
        multiples: What sides of a patch must be multiples of.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    multiples: tuple[int, ...]


@dataclass(frozen=True)
class UNetPlan:
    """What ``planned`` returns.

    Attributes:
        spacing_mm: Voxel size that scans are resampled to.
        patch: Sides of a training patch, in voxels.
        topology: Strides and kernels.
    """

    spacing_mm: tuple[float, ...]
    patch: tuple[int, ...]
    topology: Topology

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the network and its patch, by their names in a plan.

        The voxel size is not among them: a plan resamples to equal sides of a voxel.
        """
        return {
            "data.prepare.shape": list(self.patch),
            "model.strides": [list(one) for one in self.topology.strides],
            "model.kernels": [list(one) for one in self.topology.kernels],
            "model.heads": self.n_heads,
        }

    @property
    def n_heads(self) -> int:
        """Levels with an answer of their own in training; the lowest has none."""
        return min(DynUNet.heads, len(self.topology.strides) - 2)

    def model(self, width: int = _BASE_WIDTH) -> DynUNet:
        """Return the network of the plan."""
        strides, kernels = self.topology.strides, self.topology.kernels
        return DynUNet(width=width, strides=strides, kernels=kernels, heads=self.n_heads)


def target_spacing_mm(found: Spacings) -> tuple[float, ...]:
    """Return the voxel size to resample to: the median, finer along an axis of thick slices.

    Thick are slices over three times the other sides of a voxel, of which there are less than a
    third as many as voxels along the other axes. That axis gets its 10th percentile, or a little
    more than the other sides where that is larger.
    """
    median, shape = found.median_mm, found.median_shape
    worst = max(range(len(median)), key=lambda axis: median[axis])
    others_mm = [mm for axis, mm in enumerate(median) if axis != worst]
    others = [side for axis, side in enumerate(shape) if axis != worst]
    is_thick = median[worst] * _BARELY > _ANISOTROPIC * max(others_mm)
    if not (is_thick and shape[worst] * _ANISOTROPIC < max(others)):
        return median
    finer = max(found.tenth_mm[worst], max(others_mm) + 1e-5)
    return tuple(finer if axis == worst else mm for axis, mm in enumerate(median))


def chosen_spacing_mm(median_mm: Vector, tenth_mm: Vector, median_shape: Vector) -> Vector:
    """Return what ``target_spacing_mm`` does, from arrays and as one."""
    rows = (tuple(map(float, row)) for row in (median_mm, tenth_mm, median_shape))
    return np.array(target_spacing_mm(Spacings(*rows)))


def topology(spacing_mm: Sequence[float], patch: Sequence[int]) -> Topology:
    """Return how a patch is halved: axes with coarse voxels wait until the others are as coarse.

    Args:
        spacing_mm: Voxel size.
        patch: Sides, in voxels.
    """
    spacing, sides = list(spacing_mm), [float(side) for side in patch]
    n_dims = len(sides)
    strides, kernels = [(1,) * n_dims], list[tuple[int, ...]]()
    kernel, n_halved = [1] * n_dims, [0] * n_dims
    while axes := _halved(spacing, sides):
        for axis in range(n_dims):
            if spacing[axis] / min(spacing) < _NEAR * _BARELY:
                kernel[axis] = 3
        for axis in axes:
            n_halved[axis] += 1
            spacing[axis] *= 2
            sides[axis] = math.ceil(sides[axis] / 2)
        strides.append(tuple(2 if axis in axes else 1 for axis in range(n_dims)))
        kernels.append(tuple(kernel))
    kernels.append((3,) * n_dims)
    return Topology(tuple(strides), tuple(kernels), tuple(2**n for n in n_halved))


def _halved(spacing: Sequence[float], sides: Sequence[float]) -> list[int]:
    large = [axis for axis, side in enumerate(sides) if side >= 2 * LEAST_EDGE]
    if not large:
        return []
    finest = min(spacing[axis] for axis in large)
    axes = [axis for axis in large if spacing[axis] / finest < _NEAR * _BARELY]
    is_last = len(axes) == 1 and sides[axes[0]] < 3 * LEAST_EDGE
    return [] if is_last else axes


def planned(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    n_outputs: int,
    most_numbers: float | None = None,
) -> UNetPlan:
    """Return the plan for scans of a voxel size: the largest patch that memory allows.

    Args:
        spacing_mm: Voxel size after resampling, two numbers or three.
        median_shape: Median sides of the scans at that voxel size.
        n_outputs: Background and classes.
        most_numbers: Numbers in all feature maps of one patch; None is nnU-Net's own limit.

    Raises:
        ConfigError: Scans are too small for three levels (C01).
    """
    n_dims = len(spacing_mm)
    limit = MOST_NUMBERS[n_dims] if most_numbers is None else most_numbers
    patch = _first_patch(spacing_mm, median_shape)
    shape = topology(spacing_mm, patch)
    patch = _padded(patch, shape.multiples)
    while n_numbers(patch, shape, n_outputs) > limit:
        axis = max(range(n_dims), key=lambda a: (patch[a] / median_shape[a], a))
        less = topology(spacing_mm, _shorter(patch, axis, shape.multiples[axis]))
        smaller = _shorter(patch, axis, less.multiples[axis])
        shape = topology(spacing_mm, smaller)
        smaller = _padded(smaller, shape.multiples)
        if smaller == patch:
            break
        patch = smaller
    n_levels = len(shape.strides)
    require(n_levels >= 3, "patch of the planned network", patch, "sides for three levels")
    return UNetPlan(tuple(spacing_mm), patch, shape)


def n_numbers(patch: Sequence[int], shape: Topology, n_outputs: int) -> float:
    """Return the numbers in all feature maps of one patch, as nnU-Net's planner counts them."""
    widths = level_widths(_BASE_WIDTH, len(shape.strides), len(patch))
    sides, total = [float(side) for side in patch], 0.0
    for level, (width, stride) in enumerate(zip(widths, shape.strides, strict=True)):
        sides = [side / step for side, step in zip(sides, stride, strict=True)]
        is_lowest = level == len(widths) - 1
        n_maps = 2 * width + (0 if is_lowest else 3 * width + n_outputs)
        total += n_maps * math.prod(sides)
    return total


def _first_patch(spacing_mm: Sequence[float], shape: Sequence[float]) -> tuple[int, ...]:
    fine = [1 / mm for mm in spacing_mm]
    side = _FIRST_SIDE[len(fine)] / math.prod(fine) ** (1 / len(fine))
    pairs = zip(fine, shape, strict=True)
    return tuple(min(round(one * side), math.ceil(most * _BARELY)) for one, most in pairs)


def _padded(patch: Sequence[int], multiples: Sequence[int]) -> tuple[int, ...]:
    return tuple(-(-side // m) * m for side, m in zip(patch, multiples, strict=True))


def _shorter(patch: Sequence[int], axis: int, by: int) -> tuple[int, ...]:
    return tuple(side - by * (i == axis) for i, side in enumerate(patch))

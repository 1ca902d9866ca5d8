"""Where the head is in an image, where air is beyond doubt, and where the brain is.

The estimate of the head serves statistics and cropping. It may hold some air, and it may lack thin
skin: nothing is deleted by it. Air is judged apart, and in doubt a voxel is not air.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

itk: Any = SimpleITK  # none of its functions has types

Mask = NDArray[np.bool_]

POWERS = (1.0, 0.5, 0.25)
"""Otsu's threshold of the intensities and of their roots: the roots find it below bright fat."""
SAMPLE = 200_000
"""Voxels on which thresholds are chosen, about."""
N_SIGMA = 5.0
"""Air reaches so many deviations above its middle (one voxel in 20,000 of Rayleigh noise more)."""
NEAR_SIGMA = 3.0
"""The same for air that touches the head, where thin dark tissue may lie."""
LEAST_GAP = 6.0
"""Tissue lies so many deviations above air, or there is no air."""
LEAST_SHARE = 0.01
"""Share of the image that a part must have to be air, or of the largest part to be head."""
FRAME_TOLERANCE = 0.03
"""Range of a white frame's values, as a share of the image's."""
MOST_AIR = 0.9
"""Share above which air has to be as wide as noise."""
WIDE = 0.35
"""Least share of air in what one dark value surrounds; fluid at the rim of a brain has less."""
RAYLEIGH = (0.45, 0.65)
"""Spread of noise as a share of its middle: 0.56 in theory."""
LOW = 0.25
"""Air lies below this share of tissue, above the dark value that surrounds an image."""
BRAIN = (0.15, 0.9)
"""Share of the head that a brain can be."""
SOLID = 0.2
"""Least share of a head that lies in parts thicker than a voxel or two."""
CLOSING = 0.025
"""Radius that gaps of the outline are closed with, as a share of the smaller side of a plane."""


@dataclass(frozen=True)
class Head:
    """Where the head is.

    Attributes:
        mask: The head, its outline closed and its holes filled, shape ``(D, H, W)``.
        air: Air beyond doubt, of the same shape: at the image's border or joined to it, far below
            the tissue, and outside the mask. What is in neither is dark, bright, or small.
        kind: What the image is taken for: ``air`` around a head, ``stripped`` where one value
            surrounds it, or ``full`` where no air is seen.
    """

    mask: Mask
    air: Mask
    kind: str


@dataclass(frozen=True)
class _Level:
    """Air and tissue as one threshold parts them.

    Attributes:
        air: Middle of what is taken for air.
        near: Its spread about the middle.
        spread: Its spread with all that lies far from the middle.
        tissue: Middle of the rest.
        share: Share of air in the image without the value that surrounds it.
    """

    air: float
    near: float
    spread: float
    tissue: float
    share: float

    @property
    def gap(self) -> float:
        return (self.tissue - self.air) / self.spread

    def is_air(self, value: float | None, lowest: float) -> bool:
        """Return whether this can be air, in an image that a dark value surrounds, or none.

        Around a stripped brain such a value is all air there is: fluid at its rim is dark, but
        thin, and neither as even as air nor as wide as noise. Nearly all of an image is air only
        where that is noise above the ``lowest`` value there can be: else it is a crop of tissue
        with a bright lesion.
        """
        if self.gap < LEAST_GAP:
            return False
        if self.share > MOST_AIR and self.near < RAYLEIGH[0] * (self.air - lowest):
            return False
        if value is None:
            return True
        above, tissue = self.air - value, self.tissue - value
        is_noise = RAYLEIGH[0] * above <= self.near <= RAYLEIGH[1] * above
        is_low = above <= LOW * tissue and self.gap >= 2 * LEAST_GAP
        return self.share >= WIDE and (is_low or (is_noise and above <= 0.35 * tissue))

    def threshold(self, n_sigma: float) -> float:
        """Return where air ends, so many deviations above its middle."""
        return min(self.air + n_sigma * self.near, (self.air + self.tissue) / 2)


def head_mask(values: np.ndarray) -> Mask:
    """Return where the head is, closed and filled; see ``find_head``."""
    return find_head(values).mask


def find_head(values: np.ndarray) -> Head:
    """Return where the head is, and where air is beyond doubt.

    One value that surrounds the image is set apart first: skull-stripped images, padding, white
    frames. In the rest, several thresholds between dark and bright are tried. Each says what air
    would be: dark, joined to the border, and thick. The one is taken whose air is furthest below
    its tissue, measured in deviations of that air. The head is what is brighter than air, with its
    outline closed and its holes filled slice by slice.

    Args:
        values: Image, shape ``(D, H, W)``; an axis of length 1 makes it a 2D image. Not constant.

    Returns:
        Masks of the same shape; at least one voxel is inside the head.

    Source:
        Otsu 1979, doi:10.1109/TSMC.1979.4310076 (thresholds between which is chosen).
    """
    values = values.astype(np.float32)
    ground, value = _surround(values)
    few = thinning(values, SAMPLE)
    seen = _Seen(values[few], ground[few])
    # a program that sets air to 0 leaves it amid z-scores; what is brighter yet is a white frame
    is_dark = value is not None and value <= np.percentile(seen.rest, 90)
    is_lowest = value is None or _is_lowest(seen, value)
    found = _best_level(seen, value if is_dark else None) if is_lowest or not is_dark else None
    if found is None:
        mask = _closed(_parts(~ground), ~ground)
        kind = "stripped" if is_dark else "full"
        return Head(mask, ground & ~mask if is_dark else np.zeros_like(mask), kind)
    bright = ~ground & (values > found.threshold(N_SIGMA))
    if not _is_solid(bright[few]):
        return Head(~ground, np.zeros_like(ground), "full")
    mask = _closed(_parts(bright), bright) & ~ground
    return Head(mask, _certain_air(values, mask, found, ground if is_dark else None), "air")


@dataclass(frozen=True)
class _Seen:
    """A thinned-out image, and where one value surrounds it."""

    values: np.ndarray
    ground: Mask

    @property
    def rest(self) -> np.ndarray:
        return self.values[~self.ground]


def _is_solid(bright: Mask) -> bool:
    """Whether what stands out is thick somewhere, as a head is.

    In the air of a T1 map noise is brighter than tissue. What stands out is then specks, and what
    they surround is the head.
    """
    thick = ndimage.binary_opening(bright, _disk(bright.shape))
    return bool(thick.sum() >= SOLID * bright.sum())


def _surround(values: np.ndarray) -> tuple[Mask, float | None]:
    """Return the voxels of the one value that surrounds the image, and that value, or none."""
    found, counts = np.unique(values[_border(values.shape)], return_counts=True)
    value = float(found[counts.argmax()])
    low, high = float(values.min()), float(values.max())
    is_bright = value > low + 0.9 * (high - low)
    tolerance = FRAME_TOLERANCE * (high - low) if is_bright else 0.0
    same = np.abs(values - value) <= tolerance
    if same.mean() >= LEAST_SHARE:
        same = _joined(same)
    is_ground = LEAST_SHARE <= same.mean() < 1 - LEAST_SHARE
    if is_ground and not _is_lowest(_Seen(values, same), value):
        # noise of whole numbers has its most frequent value everywhere, but nowhere alone
        thick = ndimage.binary_opening(same, _disk(same.shape))
        is_ground = thick.sum() >= 0.5 * same.sum()
    return (same, value) if is_ground else (np.zeros(values.shape, bool), None)


def _is_lowest(seen: _Seen, value: float) -> bool:
    return float(np.mean(seen.rest < value)) < LEAST_SHARE


def _best_level(seen: _Seen, value: float | None) -> _Level | None:
    """Return the level of air whose tissue stands out most, or None where no air is seen."""
    low, high = (float(x) for x in np.percentile(seen.rest, (0.1, 99.5)))
    if high <= low:
        return None
    unit = ((seen.values - low) / (high - low)).clip(0, 1)
    levels = [_level(seen, unit**power, high - low) for power in POWERS]
    there = [level for level in levels if level is not None and level.is_air(value, min(0.0, low))]
    return max(there, key=lambda level: level.gap, default=None)


def _level(seen: _Seen, unit: np.ndarray, width: float) -> _Level | None:
    """Return what a threshold takes for air and tissue; None where that is no air."""
    dark = ~seen.ground & (unit <= _otsu(unit[~seen.ground]))
    thick = ndimage.binary_opening(dark, _disk(seen.ground.shape))
    air = _joined(thick | seen.ground) & thick
    is_thick = air.sum() >= max(LEAST_SHARE * air.size, 0.2 * dark.sum())
    tissue = ~seen.ground & ~dark
    if not is_thick or not tissue.any():
        return None
    tenth, middle, most = np.percentile(seen.values[air], (10, 50, 90))
    near = 1.4826 * np.median(np.abs(seen.values[air] - middle))
    least = 0.005 * width
    return _Level(
        float(middle),
        max(float(near), least),
        max(float(most - tenth) / 2.5631, least),
        float(np.median(seen.values[tissue])),
        float(air.sum() / (~seen.ground).sum()),
    )


def _otsu(unit: np.ndarray) -> float:
    """Return Otsu's threshold of values from 0 to 1."""
    counts, edges = np.histogram(unit, 256, (0, 1))
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * middles)
    apart = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * apart**2)])


def _certain_air(values: np.ndarray, mask: Mask, level: _Level, ground: Mask | None) -> Mask:
    """Return voxels outside the head that are as dark as air and joined to the border."""
    outside = ~mask & (values <= level.threshold(N_SIGMA))
    near = ndimage.binary_dilation(mask, _disk(mask.shape), iterations=2)
    outside &= ~near | (values <= level.threshold(NEAR_SIGMA))
    return _joined(outside if ground is None else outside | (ground & ~mask))


def _parts(mask: Mask) -> Mask:
    """Return the parts that are not much smaller than the largest one."""
    labels, n_parts = ndimage.label(mask)
    if n_parts == 0:
        return np.ones_like(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: Mask = (sizes >= LEAST_SHARE * sizes.max())[labels]
    return kept


def _closed(mask: Mask, bright: Mask) -> Mask:
    """Return the mask with gaps of its outline closed and its holes filled, slice by slice."""
    axes = _slice_axes(mask.shape)
    votes = np.zeros(mask.shape, np.uint8)
    for axis in axes:
        votes += _filled(_sealed(mask, axis), axis)
    filled = mask | (votes > len(axes) // 2)
    # closing rounds off what is flat: its outermost layers go where they are dark
    inner = ndimage.binary_erosion(filled, _disk(mask.shape), border_value=1)
    return np.asarray(inner | (filled & bright))


def _sealed(mask: Mask, axis: int) -> Mask:
    """Return the mask closed with a square in the plane across an axis."""
    plane = [other for other in range(mask.ndim) if other != axis]
    radius = max(1, round(CLOSING * min(mask.shape[other] for other in plane)))
    size, closed = 2 * radius + 1, np.pad(mask.astype(np.uint8), radius)
    for other in plane:
        closed = ndimage.maximum_filter1d(closed, size, other)
    for other in plane:
        closed = ndimage.minimum_filter1d(closed, size, other)
    return closed[(slice(radius, -radius),) * mask.ndim] > 0


def _slice_axes(shape: tuple[int, ...]) -> list[int]:
    """Return the axis of a stack's slices, or all three where none is short."""
    shortest = int(np.argmin(shape))
    return [shortest] if 2 * shape[shortest] <= max(shape) else [0, 1, 2]


def _filled(mask: Mask, axis: int) -> Mask:
    """Return the mask with what a slice encloses."""
    across = ndimage.generate_binary_structure(mask.ndim, 1)
    across[tuple(slice(None) if other != axis else [0, 2] for other in range(mask.ndim))] = False
    labels, n_parts = ndimage.label(~mask, across)
    outer = np.zeros(n_parts + 1, bool)
    for other in range(mask.ndim):
        if other != axis:
            outer[labels.take([0, -1], other)] = True
    outer[0] = False
    return np.asarray(~outer[labels])


def _joined(mask: Mask) -> Mask:
    """Return the parts of a mask that touch the image's border."""
    labels, n_parts = ndimage.label(mask)
    outer = np.zeros(n_parts + 1, bool)
    outer[labels[_border(mask.shape)]] = True
    outer[0] = False
    joined: Mask = outer[labels]
    return joined


def thinning(values: np.ndarray, n_voxels: int) -> tuple[slice, ...]:
    """Return what thins an image out to about so many voxels; short axes are left alone."""
    is_long = [3 * size > max(values.shape) for size in values.shape]
    step = max(1, round((values.size / n_voxels) ** (1 / sum(is_long))))
    return tuple(slice(None, None, step if each else 1) for each in is_long)


def _border(shape: tuple[int, ...]) -> Mask:
    """Return the outermost voxels; the ends of a stack of slices are none of them."""
    border = np.zeros(shape, bool)
    ends = _slice_axes(shape)
    for axis in range(len(shape)):
        if len(ends) == 1 and axis == ends[0]:
            continue
        border[tuple(slice(None) if other != axis else [0, -1] for other in range(len(shape)))] = (
            True
        )
    return border


def _disk(shape: tuple[int, ...]) -> Mask:
    """Return a structure that is flat along an axis of length 1."""
    structure = ndimage.generate_binary_structure(len(shape), 1)
    for axis, size in enumerate(shape):
        if size == 1:
            structure = structure.take([1], axis)
    return np.asarray(structure)


def _largest(mask: Any) -> Any:
    parts = itk.RelabelComponent(itk.ConnectedComponent(mask), sortByObjectSize=True)
    return itk.Equal(parts, 1)


def array(image: Any) -> np.ndarray:
    """Return the voxels of a SimpleITK image, its first axis last."""
    return np.asarray(itk.GetArrayFromImage(image))


def brain_mask(values: np.ndarray, spacing_mm: Sequence[float], gap_mm: float = 4.0) -> np.ndarray:
    """Return a crude mask of the brain: bright, and the largest part once thin bridges are cut.

    For T1w and FLAIR heads of adults, whose skull is a dark gap between scalp and brain. It keeps
    some eye and dura and may lose thin gyri: strip with a trained tool (HD-BET, SynthStrip) before
    fedmri where the skull matters, and leave this off.

    Bright is what exceeds Otsu's threshold, of the intensities or, where bright fat makes that
    implausible, of their roots.

    Args:
        values: Image, shape ``(D, H, W)``; an axis of length 1 makes it a 2D image.
        spacing_mm: Voxel size along the three axes.
        gap_mm: Bridges thinner than twice this are cut.

    Returns:
        Mask of the same shape; the whole head where no threshold leaves a plausible share of it.
    """
    head = head_mask(values)
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    unit = ((values - low) / max(high - low, float(np.finfo(np.float32).tiny))).clip(0, 1)
    sizes = [mm for mm, n in zip(spacing_mm, values.shape, strict=True) if n > 1]
    radius = [max(1, round(gap_mm / mm)) for mm in reversed(sizes)]  # SimpleITK's axes run x first
    for power in POWERS:
        brain = _core(unit > _otsu(unit**power) ** (1 / power), radius)
        if BRAIN[0] * head.sum() <= (brain & head).sum() <= BRAIN[1] * head.sum():
            return brain
    return head


def _core(bright: Mask, radius: Sequence[int]) -> Mask:
    """Return the largest part once bridges are cut, grown back, with its holes filled."""
    image = itk.GetImageFromArray(np.squeeze(bright).astype(np.uint8))
    parts = itk.ConnectedComponent(itk.BinaryErode(image, radius, itk.sitkBall))
    largest = itk.Equal(itk.RelabelComponent(parts, sortByObjectSize=True), 1)
    grown = itk.BinaryFillhole(itk.BinaryDilate(largest, radius, itk.sitkBall))
    return np.asarray(itk.GetArrayFromImage(grown)).reshape(bright.shape).astype(bool)

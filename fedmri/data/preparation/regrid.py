"""Intensities, label maps and probabilities from one grid to another.

Where the grids differ by whole voxels, axes and directions only, voxels are copied and no bit
changes. Elsewhere values are interpolated linearly, and smoothed before where voxels grow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK
from scipy import ndimage

from fedmri.data.preparation.geometry import Grid

TOLERANCE = 0.1
"""Voxels that two grids may lie apart and still be copied: headers round."""
TRACE = 1e-4
"""Voxels between opposite edges that places are pulled inwards: more than headers round."""
OFF = 0.2113
"""Share of the trace off the middle: less than the pull at an edge, and the pull at no tie."""
STRETCH = 1e-3
"""Growth of voxels that is rounding."""
ALL_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)

itk: Any = SimpleITK  # none of its functions has types


def regrid(
    values: np.ndarray, source: Grid, target: Grid, *, fill: float, is_smoothed: bool = True
) -> np.ndarray:
    """Return intensities on another grid.

    Args:
        values: Shape of the source grid.
        source: Grid of the values.
        target: Grid wanted.
        fill: Value outside the source.
        is_smoothed: Whether detail finer than the target's voxels is smoothed away first, so that
            it does not come back as a false pattern.

    Returns:
        Shape of the target grid; the same type where voxels are copied, else float32.

    Source:
        Cardoso et al. 2015, doi:10.1007/978-3-319-24571-3_81 (width of the smoothing).
    """
    step = target.voxels_in(source)
    whole = _whole(step, target)
    if whole is not None:
        return _copied(values, whole, target.shape, fill)
    values = values.astype(np.float32)
    if is_smoothed:
        factors = np.linalg.norm(step[:3, :3], axis=1)
        sigmas = [math.sqrt(max(k**2 - 1, 0) / (8 * math.log(2))) for k in factors]
        values = ndimage.gaussian_filter(values, sigmas, mode="nearest")
    return _sampled(values, step, target.shape, fill, itk.sitkLinear)


def regrid_labels(labels: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return a label map on another grid; no lesion vanishes because voxels grow.

    Where no voxel grows, each takes the class of the nearest one, so that the way back is exact.
    Else each class is resampled as a share of voxels, and the largest share wins. A connected part
    of a class that would then be gone keeps the one voxel that it fills most.

    Args:
        labels: Non-negative integers, shape of the source grid.
        source: Grid of the labels.
        target: Grid wanted.

    Returns:
        uint8, shape of the target grid; 0 outside the source.
    """
    step = target.voxels_in(source)
    whole = _whole(step, target)
    if whole is not None:
        return _copied(labels.astype(np.uint8), whole, target.shape, 0)
    if np.linalg.norm(step[:3, :3], axis=1).max() <= 1 + STRETCH:
        nearest = itk.sitkNearestNeighbor
        return _sampled(labels.astype(np.uint8), step, target.shape, 0, nearest)
    classes = [int(value) for value in np.unique(labels) if value > 0]
    shares = (regrid(labels == value, source, target, fill=value == 0) for value in (0, *classes))
    best = next(shares)
    found = np.zeros(target.shape, dtype=np.uint8)
    for value, share in zip(classes, shares, strict=True):
        found[share > best] = value
        best = np.maximum(best, share)
    for value in classes:
        _rescue(found, labels == value, value, step)
    return found


def _rescue(found: np.ndarray, mask: np.ndarray, value: int, step: np.ndarray) -> None:
    """Give each connected part of a class that has no voxel left the one that it fills most."""
    parts, _ = ndimage.label(mask, ALL_NEIGHBOURS)
    places = np.argwhere(mask)
    owners = parts[mask]
    back = np.linalg.inv(step)
    goal = np.floor(places @ back[:3, :3].T + back[:3, 3] + 0.5).astype(int)
    is_inside = ((goal >= 0) & (goal < found.shape)).all(axis=1)
    goal, owners = goal[is_inside], owners[is_inside]
    kept = np.unique(owners[found[tuple(goal.T)] == value])
    for part in np.setdiff1d(np.unique(owners), kept):
        voxels, counts = np.unique(goal[owners == part], axis=0, return_counts=True)
        found[tuple(voxels[counts.argmax()])] = value


def restore(shares: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return the label map that probabilities give on another, usually finer, grid.

    Where no voxel of the target is smaller, each takes the class of the nearest one. Else
    probabilities are interpolated, and the most probable class wins. That wears off small parts: a
    connected part that would lose a quarter of its volume or more keeps its voxels as blocks.

    Args:
        shares: Probabilities of background and classes, shape ``(1 + K, *source)``.
        source: Grid of the prediction.
        target: Grid wanted.

    Returns:
        uint8, shape of the target grid; background outside the source.
    """
    labels = shares.argmax(0).astype(np.uint8)
    step = target.voxels_in(source)
    whole = _whole(step, target)
    if whole is not None:
        return _copied(labels, whole, target.shape, 0)
    step = _pulled(step, source)
    if np.linalg.norm(step[:3, :3], axis=1).min() >= 1 - STRETCH:
        return _sampled(labels, step, target.shape, 0, itk.sitkNearestNeighbor)
    best = _sampled(shares[0], step, target.shape, 1.0, itk.sitkLinear)
    found = np.zeros(target.shape, dtype=np.uint8)
    classes = [int(value) for value in np.unique(labels) if value > 0]
    for value in range(1, len(shares)):
        share = _sampled(shares[value], step, target.shape, 0.0, itk.sitkLinear)
        found[share > best] = value
        best = np.maximum(best, share)
    for value in classes:
        parts, _ = ndimage.label(labels == value, ALL_NEIGHBOURS)
        owners = _sampled(parts.astype(np.int32), step, target.shape, 0, itk.sitkNearestNeighbor)
        n_wanted = np.bincount(owners.ravel())
        n_kept = np.bincount(owners[found == value], minlength=len(n_wanted))
        is_worn = 4 * n_kept <= 3 * n_wanted
        is_worn[0] = False
        found[is_worn[owners] & (found == 0)] = value
    return found


def restore_shares(shares: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return probabilities on another grid, as they are before ``restore`` takes the largest.

    Args:
        shares: Probabilities of background and classes, shape ``(1 + K, *source)``.
        source: Grid of the prediction.
        target: Grid wanted.

    Returns:
        float32, shape ``(1 + K, *target)``; certain background outside the source.
    """
    fills = [float(number == 0) for number in range(len(shares))]
    step = target.voxels_in(source)
    whole, pulled = _whole(step, target), _pulled(step, source)
    found = [
        _sampled(share.astype(np.float32), pulled, target.shape, fill, itk.sitkLinear)
        if whole is None
        else _copied(share, whole, target.shape, fill)
        for share, fill in zip(shares, fills, strict=True)
    ]
    return np.stack(found).astype(np.float32)


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return a label map as probabilities of background and classes, float32."""
    return np.stack([labels == value for value in range(1 + n_classes)]).astype(np.float32)


def _whole(step: np.ndarray, target: Grid) -> np.ndarray | None:
    """Return the step from voxel to voxel in whole numbers, or None where it is not whole."""
    whole = np.round(step)
    turn = np.abs(whole[:3, :3])
    is_turn = (turn.sum(axis=0) == 1).all() and (turn.sum(axis=1) == 1).all()
    is_near = np.abs((step - whole) @ target.corners()).max() <= TOLERANCE
    return whole.astype(int) if is_turn and is_near else None


def _pulled(step: np.ndarray, source: Grid) -> np.ndarray:
    """Return the step with each place a trace nearer to the middle of the source, and off it.

    Places at the very edge, or half way between two voxels, would else be decided by the rounding
    of an affine: a scan stored in another order of axes would get another mask. The source has one
    order of axes for all, so that a trace along them decides alike.
    """
    shape = np.array(source.shape)
    middle, pull = (shape - 1) / 2, 1 - TRACE / shape
    pulled = step.copy()
    pulled[:3] *= pull[:, None]
    pulled[:3, 3] += middle * (1 - pull) + OFF * TRACE
    return pulled


def _copied(values: np.ndarray, step: np.ndarray, shape: Sequence[int], fill: float) -> np.ndarray:
    """Return ``values[step @ voxel]`` for every voxel of a shape."""
    order = np.abs(step[:3, :3]).argmax(axis=0)  # axis of the source that an axis runs along
    turned = values.transpose(order)
    goal, taken = [], []
    for axis, of in enumerate(order):
        first, n_there = step[of, 3], turned.shape[axis]
        if step[of, axis] < 0:
            turned, first = np.flip(turned, axis), n_there - 1 - first
        start, stop = max(0, -first), max(0, min(shape[axis], n_there - first))
        stop = max(start, stop)
        goal.append(slice(start, stop))
        taken.append(slice(start + first, stop + first))
    out = np.full(shape, fill, dtype=values.dtype)
    out[tuple(goal)] = turned[tuple(taken)]
    return out


def _sampled(
    values: np.ndarray, step: np.ndarray, shape: Sequence[int], fill: float, method: int
) -> np.ndarray:
    """Return values at ``step @ voxel``; SimpleITK's axes run the other way round."""
    image = itk.GetImageFromArray(np.ascontiguousarray(values.transpose()))
    places = itk.AffineTransform(3)
    places.SetMatrix(step[:3, :3].ravel().tolist())
    places.SetTranslation(step[:3, 3].tolist())
    size = [int(n) for n in shape]
    origin, spacing, turn = [0.0] * 3, [1.0] * 3, np.eye(3).ravel().tolist()
    found = itk.Resample(image, size, places, method, origin, spacing, turn, float(fill))
    return np.asarray(itk.GetArrayFromImage(found)).transpose()

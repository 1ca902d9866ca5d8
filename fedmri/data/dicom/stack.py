"""Frames of one DICOM volume, ordered and put together on a straight grid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedmri.data.dicom.frames import Frame, planes_of
from fedmri.data.dicom.series import MAX_VOXELS, Slice, unreadable
from fedmri.errors import DataError

Vectors = NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
GAP_TOLERANCE = 0.1
DIRECTION_TOLERANCE = 2e-3
MAX_DRIFT = 0.25
"""Pixels by which a slice may lie beside the first one before the stack is straightened."""
UNPLACED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def load_series(slices: Sequence[Slice]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Load the volume of a series.

    Each frame is scaled by its own slope and intercept. Where white means low, values are turned
    round about the volume's highest. A slanted stack (gantry tilt) is straightened: each slice is
    moved in its plane by linear interpolation, onto a grid that holds all of them.

    Args:
        slices: Files of one volume, in any order.

    Returns:
        Voxels, shape ``(X, Y, Z)``, and the affine to RAS+ in mm.

    Raises:
        DataError: Pixels are missing (D07), have colours (D08), or need a decoder (D66); the header
            claims too much (D11); slices are missing, doubled or do not fit each other (D32); or
            there are several volumes or no frame has a place (D63).
    """
    _check_size(slices)
    order = ordered(slices)
    planes: dict[tuple[int, int], tuple[NDArray[np.float32], bool]] = {}
    for number, one in enumerate(slices):
        wanted = tuple(frame for which, frame in order if which == number)
        for frame, plane in zip(wanted, planes_of(one.path, wanted), strict=True):
            planes[number, frame.index] = plane
    frames = [frame for _, frame in order]
    chosen = [planes[number, frame.index] for number, frame in order]
    volume = np.stack([plane for plane, _ in chosen])
    volume *= _vendor_rates(frames)[:, None, None]
    if any(is_inverse for _, is_inverse in chosen):
        volume = volume.max() - volume
    drift = drift_of(frames)
    origin = np.array(frames[0].position or (0.0, 0.0, 0.0))
    if np.abs(drift).max() > MAX_DRIFT:
        volume, first = _straightened(volume, drift)
        origin = origin + first @ _in_plane(frames[0])
    return volume.transpose(2, 1, 0), LPS_TO_RAS @ _affine(frames, origin)


def _vendor_rates(frames: Sequence[Frame]) -> NDArray[np.float32]:
    """Return what each frame is to be multiplied by, so that one unit holds for all slices.

    Philips stores ``PV`` with the signal ``(PV * RS + RI) / (RS * SS)``; ``RS * SS`` matters only
    where slices differ in it.

    Source:
        Chenevert et al. 2014, doi:10.1593/tlo.13811.
    """
    units = [f.vendor_slope * (f.scale[0] if f.scale else 1.0) for f in frames]
    if len(set(units)) < 2 or not all(units):
        return np.ones(len(frames), np.float32)
    return np.array([units[0] / unit for unit in units], np.float32)


def _check_size(slices: Sequence[Slice]) -> None:
    if sum(math.prod(one.shape) for one in slices) > MAX_VOXELS:
        found = f"{len(slices)} x {slices[0].shape} voxels"
        fix = "convert the series again"
        raise DataError("D11", "header", found=found, want=f"at most {MAX_VOXELS}", fix=fix)
    for one in slices:
        if one.n_bytes > one.path.stat().st_size:
            found = f"{one.path.stat().st_size} of {one.n_bytes} bytes of pixels"
            raise unreadable(found, "all of them")


def ordered(slices: Sequence[Slice]) -> list[tuple[int, Frame]]:
    """Sort frames along their normal, and refuse a series that is not one regular volume.

    Returns:
        Position of the file in ``slices`` and frame, from the lowest to the highest.

    Raises:
        DataError: As ``load_series`` says (D32, D63).
    """
    for one in slices:
        if len(one.frames) != one.shape[0]:
            found = f"{one.shape[0]} frames and the places of {len(one.frames)}"
            raise not_read(found, "a place for each frame", "convert the file to NIfTI")
    frames = [(number, frame) for number, one in enumerate(slices) for frame in one.frames]
    first = frames[0][1]
    if len({one.shape[1:] for one in slices}) > 1 or not _is_parallel([f for _, f in frames]):
        raise _irregular("slices of different size or direction")
    if first.spacing_mm is None or min(first.spacing_mm) <= 0:
        raise _irregular("no distance of pixels")
    if len(frames) == 1:
        return frames
    if first.orientation is None or any(frame.position is None for _, frame in frames):
        raise _irregular("slices without a position")
    heights = _heights([frame for _, frame in frames])
    rank = sorted(range(len(frames)), key=lambda i: (heights[i], slices[frames[i][0]].number))
    _check_gaps([frames[i][1] for i in rank], heights[rank])
    return [frames[i] for i in rank]


def _heights(frames: Sequence[Frame]) -> Vectors:
    normal = np.cross(*np.reshape(frames[0].orientation or UNPLACED, (2, 3)))
    return np.array([frame.position for frame in frames]) @ normal


def _is_parallel(frames: Sequence[Frame]) -> bool:
    first = frames[0]
    if first.orientation is None:
        return all(frame.orientation is None for frame in frames)
    rows = np.reshape(first.orientation, (2, 3))
    if not np.allclose(rows @ rows.T, np.eye(2), atol=1e-2):
        raise _irregular("directions that are not at right angles")
    return all(
        frame.orientation is not None
        and np.allclose(frame.spacing_mm or 0, first.spacing_mm or 0, rtol=1e-3)
        and np.allclose(frame.orientation, first.orientation, atol=DIRECTION_TOLERANCE)
        for frame in frames
    )


def _check_gaps(frames: Sequence[Frame], heights: Vectors) -> None:
    gaps = np.diff(heights)
    places = Counter(frame.position for frame in frames)
    n_each = set(places.values())
    if len(n_each) == 1 and n_each != {1}:
        raise not_read(
            f"{n_each.pop()} volumes in one series{_differences(frames)}",
            "one volume",
            "export the one that is wanted as a series of its own",
        )
    middle = float(np.median(gaps))
    if gaps.min() <= GAP_TOLERANCE * middle or middle <= 0:
        raise _irregular("two slices at one position")
    if gaps.max() > (1 + GAP_TOLERANCE) * middle + 1e-3:
        raise _irregular(f"a gap of {gaps.max():.2f} mm, elsewhere {middle:.2f} mm")


def _differences(frames: Sequence[Frame]) -> str:
    """Return in words what the volumes of one place differ in."""
    named: dict[str, set[object]] = {
        "echoes": {frame.echo for frame in frames},
        "parts of complex numbers": {frame.part for frame in frames},
        "b-values": {frame.b_value for frame in frames},
        "time points or acquisitions": {frame.moment for frame in frames},
    }
    words = [f"{len(values)} {name}" for name, values in named.items() if len(values) > 1]
    return f" ({', '.join(words)})" if words else ""


def drift_of(frames: Sequence[Frame]) -> Vectors:
    """Return by how many columns and rows each slice lies beside the first, shape ``(n, 2)``."""
    if len(frames) == 1 or any(frame.position is None for frame in frames):
        return np.zeros((len(frames), 2))
    places = np.array([frame.position for frame in frames])
    plane = _in_plane(frames[0])
    drift: Vectors = (places - places[0]) @ plane.T / np.sum(plane**2, axis=1)
    return drift


def _in_plane(frame: Frame) -> Vectors:
    """Return the steps in mm to the next column and the next row, shape ``(2, 3)``."""
    between_rows, between_columns = frame.spacing_mm or (1.0, 1.0)
    rows = np.reshape(frame.orientation or UNPLACED, (2, 3))
    steps: Vectors = rows * np.array([[between_columns], [between_rows]])
    return steps


def _straightened(
    volume: NDArray[np.float32], drift: Vectors
) -> tuple[NDArray[np.float32], Vectors]:
    """Move each slice to where it lies; return the volume and its first column and row."""
    low, high = np.floor(drift.min(axis=0)), np.ceil(drift.max(axis=0))
    n_columns, n_rows = (high - low).astype(int)
    if max(n_columns / volume.shape[2], n_rows / volume.shape[1]) > 1:
        raise _irregular("slices that lie beside each other more than above")
    air = float(volume.min())
    padded = np.pad(volume, ((0, 0), (0, n_rows), (0, n_columns)), constant_values=air)
    moves = (drift - low)[:, ::-1]  # rows first, as in the array
    moved = [
        ndimage.shift(plane, move, order=1, cval=air, mode="constant")
        for plane, move in zip(padded, moves, strict=True)
    ]
    return np.stack(moved), low


def _affine(frames: Sequence[Frame], origin: Vectors) -> NDArray[np.float64]:
    plane = _in_plane(frames[0])
    normal = np.cross(*(plane / np.linalg.norm(plane, axis=1, keepdims=True)))
    step_mm = frames[0].through_mm
    if len(frames) > 1:
        heights = _heights(frames)
        step_mm = float((heights[-1] - heights[0]) / (len(frames) - 1))
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([*plane, normal * step_mm])
    affine[:3, 3] = origin
    return affine


def _irregular(found: str) -> DataError:
    fix = "export the series again, or list its subject in data.check.exclude"
    return DataError("D32", "series", found=found, want="one regular stack of slices", fix=fix)


def not_read(found: str, want: str, fix: str) -> DataError:
    """Return the error about a file or series of a kind that is not read."""
    return DataError("D63", "series", found=found, want=want, fix=fix)

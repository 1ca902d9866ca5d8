"""Images and label of a scan in one world: who lies where, and whether a label fits its image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import nibabel as nib
import numpy as np

from fedmri.data.files.nifti import Affine, Volume, shift_mm
from fedmri.errors import DataError

LABEL = "label"
MIN_OVERLAP = 0.5  # of the smaller of two boxes


def placed_together(volumes: Mapping[str, Volume]) -> dict[str, Volume]:
    """Return the volumes of a scan with one place for those whose headers say none.

    A volume without sform and qform lies as another of the same shape does: what dropped the header
    left the array. So image and mask are never turned against each other.

    Args:
        volumes: By modality, and ``label``; pictures stay as they are.

    Raises:
        DataError: No volume of its shape says where it lies, and shapes differ (D57).
    """
    solid = {name: volume for name, volume in volumes.items() if volume.voxels.ndim == 3}
    shapes = {volume.voxels.shape for volume in solid.values()}
    found = dict(volumes)
    for name, volume in solid.items():
        if volume.is_placed or len(solid) == 1:
            continue
        shape = volume.voxels.shape
        like = [v for v in solid.values() if v.is_placed and v.voxels.shape == shape]
        if not like and len(shapes) > 1:
            fix = "write the affine into its header, or convert the series again"
            found_text = f"no sform and no qform in {name}, of shape {shape}"
            want = "a place, or the shape of an image that has one"
            raise DataError("D57", "header", found=found_text, want=want, fix=fix)
        found[name] = replace(volume, affine=like[0].affine) if like else volume
    return found


def misfits(label: Volume, images: Mapping[str, Volume]) -> list[str]:
    """Return why a label cannot be one of its images; empty where it can.

    The label must have the grid of one image, in whatever order of axes. It may lie on a grid of
    its own that covers the same box.

    Args:
        label: As it was read.
        images: Images by modality, at least one.
    """
    if label.voxels.ndim == 2:
        return _of_pictures(label, images)
    reasons = []
    for modality, image in images.items():
        reason = _difference(label, image)
        if reason is None:
            return []
        reasons.append(f"{reason} {modality}")
    return reasons


def oddity(label: Volume, images: Mapping[str, Volume]) -> str:
    """Return what is odd about a label that fits; empty where it has an image's very grid."""
    if label.voxels.ndim == 2:
        return ""
    own = _canonical(label)[1]
    same = [image for image in images.values() if _canonical(image)[1] == own]
    if not same:
        return "has other voxels than its image, at the same place: it is sampled anew"
    if all(_axes(image) != _axes(label) for image in same):
        return "has its axes in another order than its image: it is turned to it"
    return ""


def apart(images: Mapping[str, Volume]) -> list[str]:
    """Return which modalities hardly overlap with the first one, and by how much."""
    solid = {name: image for name, image in images.items() if image.voxels.ndim == 3}
    if len(solid) < 2:
        return []
    first, *others = solid
    shares = {name: _overlap(solid[name], solid[first]) for name in others}
    return [
        f"{name} and {first} overlap by {share:.0%} of the smaller one"
        for name, share in shares.items()
        if share < MIN_OVERLAP
    ]


def _of_pictures(label: Volume, images: Mapping[str, Volume]) -> list[str]:
    shape = label.voxels.shape
    return [
        f"has shape {shape}, {modality} has {image.voxels.shape}"
        for modality, image in images.items()
        if image.voxels.shape != shape
    ]


def _difference(label: Volume, image: Volume) -> str | None:
    """Return how a label lies apart from an image, or None where it covers the same voxels."""
    affine, shape = _canonical(label)
    its_affine, its_shape = _canonical(image)
    spacing, its_spacing = (np.linalg.norm(a[:3, :3], axis=0) for a in (affine, its_affine))
    if shape == its_shape:
        shift = shift_mm(affine, its_affine, shape)
        return None if shift <= its_spacing.min() / 2 else f"lies up to {shift:.1f} mm away from"
    gap = np.abs(_box(affine, shape) - _box(its_affine, its_shape)).max()
    if gap <= max(spacing.max(), its_spacing.max()) / 2:
        return None
    return f"has shape {label.voxels.shape}, not {image.voxels.shape} as"


def _axes(volume: Volume) -> list[float]:
    """Return which axis of the world each axis of the array runs along; either way is one."""
    axes: list[float] = nib.io_orientation(volume.affine)[:, 0].tolist()
    return axes


def _canonical(volume: Volume) -> tuple[Affine, tuple[int, ...]]:
    """Return affine and shape of a volume with its axes in the order of the world."""
    order = nib.io_orientation(volume.affine)
    shape = tuple(volume.voxels.shape[int(axis)] for axis in np.argsort(order[:, 0]))
    back = nib.orientations.inv_ornt_aff(order, volume.voxels.shape)
    return volume.affine @ back, shape


def _box(affine: Affine, shape: tuple[int, ...]) -> np.ndarray:
    """Return the outer corners of a grid, shape ``(8, 3)``, in mm."""
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in shape], indexing="ij")).reshape(3, -1)
    return np.asarray((affine[:3, :3] @ ends + affine[:3, 3:]).T)


def _overlap(one: Volume, other: Volume) -> float:
    """Return the shared share of the smaller of two boxes along the axes of the world."""
    boxes = [_box(volume.affine, volume.voxels.shape) for volume in (one, other)]
    low = np.max([box.min(axis=0) for box in boxes], axis=0)
    high = np.min([box.max(axis=0) for box in boxes], axis=0)
    sizes = [float(np.prod(box.max(axis=0) - box.min(axis=0))) for box in boxes]
    return float(np.prod(np.maximum(high - low, 0)) / min(sizes))

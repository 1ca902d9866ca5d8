"""Deterministic preparation of a scan: one geometry for all modalities, one scale of intensities.

Order: canonical orientation (RAS), other modalities and the label map onto the first modality's
grid, N4, skull strip, voxel size, scaling inside the head, crop or pad about the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import torch
import torchio as tio

from fedmri.data.head import brain_mask, head_mask
from fedmri.data.intensity import refuse_unusable, remove_bias_field, scale
from fedmri.data.settings import PrepareConfig

LABEL = "label"


@dataclass(frozen=True)
class Opened:
    """An image as it was read.

    Attributes:
        values: Shape ``(D, H, W)``, or ``(H, W)`` for a 2D image.
        affine: Voxel to world, RAS+, mm, shape ``(4, 4)``; unused for a 2D image.
    """

    values: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class Arrays:
    """A prepared scan.

    Attributes:
        image: Shape ``(C, D, H, W)`` or ``(C, H, W)``, float32; an absent modality is zero. For
            slices ``D`` is the slicing axis, else the axes point right, anterior, superior.
        label: Label map of the same spatial shape, uint8, or None.
        spacing_mm: Voxel size in the order of the spatial axes; 1 for a 2D image.
    """

    image: np.ndarray
    label: np.ndarray | None
    spacing_mm: tuple[float, ...]


def prepare_arrays(
    images: Sequence[Opened | None], label: Opened | None, config: PrepareConfig
) -> Arrays:
    """Return the prepared image and label map of a scan.

    Args:
        images: One entry a channel, None where the modality is absent; at least one is present.
            All are 2D or all are 3D.
        label: Label map of non-negative integers, or None.
        config: What is done. Slices (``2d``, ``2.5d``) are resampled within their plane only, and
            2D images, which have no voxel size, not at all.

    Returns:
        Arrays on one grid.

    Raises:
        DataError: An image is constant or not finite, in all or inside the head (D10).
    """
    first = next(image for image in images if image is not None)
    is_flat = first.values.ndim == 2
    subject = _to_grid(_subject(images, label), is_flat=is_flat)
    scalars = subject.get_images_dict(intensity_only=True)
    for image in scalars.values():
        refuse_unusable(image.numpy())
        if config.is_n4:
            _replace(image, remove_bias_field(image.numpy()[0]))
    if config.is_skull_stripped:
        _strip_skull(scalars)
    if config.spacing_mm and not is_flat:
        _resample(subject, config)
    return _scaled(subject, len(images), config, is_flat=is_flat)


def _subject(images: Sequence[Opened | None], label: Opened | None) -> tio.Subject:
    parts: dict[str, tio.Image] = {}
    for channel, image in enumerate(images):
        if image is not None:
            parts[str(channel)] = tio.ScalarImage(tensor=_voxels(image), affine=image.affine)
    if label is not None:
        parts[LABEL] = tio.LabelMap(tensor=_voxels(label), affine=label.affine)
    return tio.Subject(parts)


def _voxels(image: Opened) -> torch.Tensor:
    values = np.ascontiguousarray(image.values, dtype=np.float32)
    return torch.from_numpy(values.reshape(1, *values.shape, *[1] * (3 - values.ndim)))


def _to_grid(subject: tio.Subject, *, is_flat: bool) -> tio.Subject:
    """Return the subject in canonical orientation, with all images on the first one's grid."""
    if not is_flat:
        subject = tio.ToCanonical(copy=False)(subject)
    first, *others = subject.get_images(intensity_only=False)
    for image in others:
        is_same_grid = np.allclose(image.affine, first.affine, atol=1e-3)
        if image.spatial_shape != first.spatial_shape or not (is_flat or is_same_grid):
            target = (first.spatial_shape, first.affine)
            _replace(image, tio.Resample(target)(image).numpy()[0], first.affine)
    return subject


def _replace(image: tio.Image, values: np.ndarray, affine: np.ndarray | None = None) -> None:
    image.set_data(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None])
    if affine is not None:
        image.affine = affine


def _resample(subject: tio.Subject, config: PrepareConfig) -> None:
    for image in subject.get_images(intensity_only=False):
        is_kept = [config.dimension != "3d" and axis == config.slice_axis for axis in range(3)]
        x, y, z = np.where(is_kept, image.spacing, config.spacing_mm).tolist()
        is_thick = min(image.spatial_shape) >= 4  # fewer voxels cannot be smoothed by SimpleITK
        resampled = tio.Resample((x, y, z), antialias=is_thick)(image)
        _replace(image, resampled.numpy()[0], resampled.affine)


def _scaled(
    subject: tio.Subject, n_channels: int, config: PrepareConfig, *, is_flat: bool
) -> Arrays:
    """Return the arrays with scaled intensities, cut about the first image's head."""
    first = subject.get_first_image()
    spatial = first.spatial_shape
    head = head_mask(first.numpy()[0])
    centre = [float(axis.mean()) for axis in np.nonzero(head)]
    shape = (*config.shape[1:], 0) if is_flat else volume_shape(config)
    windows = [window(*sizes) for sizes in zip(spatial, shape, centre, strict=True)]
    image = np.zeros((n_channels, *[size for _, _, size in windows]), dtype=np.float32)
    for name, scalar in subject.get_images_dict(intensity_only=True).items():
        values = scale(scalar.numpy()[0], config.scaling)
        air = 0.0 if config.scaling == "zscore" else float(values.min())
        image[int(name)] = cut(values, windows, fill=air)
    label = None
    if LABEL in subject:
        label = cut(subject.get_image(LABEL).numpy()[0], windows, fill=0).astype(np.uint8)
    if is_flat:
        return Arrays(image[..., 0], None if label is None else label[..., 0], (1.0, 1.0))
    spacing_mm = [float(size) for size in nib.affines.voxel_sizes(first.affine)]
    if config.dimension == "3d":
        return Arrays(image, label, tuple(spacing_mm))
    axis = config.slice_axis
    spacing_mm.insert(0, spacing_mm.pop(axis))
    label = None if label is None else np.moveaxis(label, axis, 0)
    return Arrays(np.moveaxis(image, axis + 1, 1), label, tuple(spacing_mm))


def volume_shape(config: PrepareConfig) -> tuple[int, ...]:
    """Return the size to crop or pad to along the axes of a canonical volume; 0 keeps an axis.

    For slices, a first number of 0 says that the other two are the size within the plane.
    """
    first, *plane = config.shape
    if config.dimension == "3d" or first:
        return config.shape
    plane.insert(config.slice_axis, 0)
    return tuple(plane)


def window(size: int, wanted: int, centre: float) -> tuple[int, int, int]:
    """Return where an axis is cut: its first voxel, voxels padded before it, and the new size.

    An axis is cropped about the centre, as far as it reaches, or padded evenly; never both.
    """
    if not wanted:
        return 0, 0, size
    if size <= wanted:
        return 0, (wanted - size) // 2, wanted
    start = round(centre - (wanted - 1) / 2)
    return min(max(start, 0), size - wanted), 0, wanted


def cut(values: np.ndarray, windows: Sequence[tuple[int, int, int]], *, fill: float) -> np.ndarray:
    """Return the array cropped or padded to its windows, one an axis (see ``window``)."""
    out = np.full([size for _, _, size in windows], fill, dtype=values.dtype)
    source, goal = [], []
    for (start, before, size), n_voxels in zip(windows, values.shape, strict=True):
        n_kept = min(size, n_voxels)
        source.append(slice(start, start + n_kept))
        goal.append(slice(before, before + n_kept))
    out[tuple(goal)] = values[tuple(source)]
    return out


def _strip_skull(scalars: Mapping[str, tio.Image]) -> None:
    """Set everything outside the first image's brain to each image's lowest value; in place."""
    first = next(iter(scalars.values()))
    brain = brain_mask(first.numpy()[0], first.spacing)
    for image in scalars.values():
        values = image.numpy()[0]
        _replace(image, np.where(brain, values - values.min(), 0))

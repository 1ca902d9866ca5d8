"""Deterministic preparation of a scan: one geometry for all modalities, one scale of intensities.

Order: canonical orientation (RAS), other modalities onto the first one's grid, N4, skull strip,
voxel size or number of pixels, scaling inside the head, crop or pad about the head. The label map
goes from its file to the prepared grid in one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torchio as tio

from fedmri.data.preparation.field_of_view import box_of_signal, joined, sized, wanted_size
from fedmri.data.preparation.geometry import Geometry, Grid
from fedmri.data.preparation.head import brain_mask, head_mask
from fedmri.data.preparation.intensity import refuse_unusable, remove_bias_field, scale
from fedmri.data.preparation.regrid import regrid, regrid_labels
from fedmri.data.settings import PrepareConfig

Window = tuple[int, int, int]
"""First voxel kept of an axis, voxels padded before it, and the new size."""


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
class PreparedArrays:
    """A prepared scan.

    Attributes:
        image: Shape ``(C, D, H, W)`` or ``(C, H, W)``, float32; an absent modality is zero. For
            slices ``D`` is the slicing axis, else the axes point right, anterior, superior.
        label: Label map of the same spatial shape, uint8, or None.
        spacing_mm: Voxel size in the order of the spatial axes; 1 for a 2D image.
        geometry: The way from the scan's own grid to this one.
        truth: The label map as its file has it, uint8, or None.
    """

    image: np.ndarray
    label: np.ndarray | None
    spacing_mm: tuple[float, ...]
    geometry: Geometry
    truth: np.ndarray | None = None


def prepare_arrays(
    images: Sequence[Opened | None], label: Opened | None, config: PrepareConfig
) -> PreparedArrays:
    """Return the prepared image and label map of a scan.

    Args:
        images: One entry a channel, None where the modality is absent; at least one is present.
            All are 2D or all are 3D.
        label: Label map of non-negative integers, or None.
        config: What is done. Slices (``2d``, ``2.5d``) are resampled within their plane only, and
            2D images, which have no voxel size, to a number of pixels only.

    Returns:
        Arrays on one grid.

    Raises:
        DataError: An image is constant or not finite, in all or inside the head (D10).
    """
    first = next(image for image in images if image is not None)
    is_flat = first.values.ndim == 2
    subject = _to_grid(_subject(images), is_flat=is_flat)
    scalars = subject.get_images_dict(intensity_only=True)
    for image in scalars.values():
        refuse_unusable(image.numpy())
        if config.is_n4:
            _replace(image, remove_bias_field(image.numpy()[0]))
    if config.is_skull_stripped:
        _strip_skull(scalars)
    if config.spacing_mm and not is_flat:
        _resample(subject, config)
    affine = np.eye(4) if is_flat else subject.get_first_image().affine
    grid = Grid.of(subject.get_first_image().spatial_shape, affine)
    if 0 in grid.shape:
        raise ValueError(f"nothing is left of the image at a voxel size of {config.spacing_mm} mm")
    channels = {int(name): scalar.numpy()[0] for name, scalar in scalars.items()}
    marked = None if label is None else _Marked.of(label)
    sizes = wanted_size(config, is_flat=is_flat)
    channels, grid, windows = _sized(channels, grid, sizes)
    scaled, grid = _scaled(channels, grid, windows, config, is_flat=is_flat)
    whole = np.zeros((len(images), *grid.shape), dtype=np.float32)
    for channel, values in scaled.items():
        whole[channel] = values
    truth = None if marked is None else marked.grid
    geometry = Geometry(Grid.of(first.values.shape, first.affine), grid, truth)
    return _arrays(whole, marked, geometry, config, is_flat=is_flat)


@dataclass(frozen=True)
class _Marked:
    """A label map with three axes, and its grid."""

    values: np.ndarray
    grid: Grid

    @classmethod
    def of(cls, label: Opened) -> _Marked:
        grid = Grid.of(label.values.shape, label.affine)
        return cls(label.values.reshape(grid.shape), grid)


def _subject(images: Sequence[Opened | None]) -> tio.Subject:
    parts: dict[str, tio.Image] = {}
    for channel, image in enumerate(images):
        if image is not None:
            parts[str(channel)] = tio.ScalarImage(tensor=_voxels(image), affine=image.affine)
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


def _sized(
    channels: Mapping[int, np.ndarray], grid: Grid, sizes: Sequence[int]
) -> tuple[dict[int, np.ndarray], Grid, list[Window]]:
    """Return the channels at the number of pixels wanted, and where they are to be cut."""
    if not any(sizes):
        return dict(channels), grid, [(0, 0, n) for n in grid.shape]
    boxes = [box_of_signal(values) for values in channels.values()]
    goal, middle = sized(grid, sizes, joined(boxes))
    resampled = {
        channel: regrid(values, grid, goal, fill=float(values.min()))
        for channel, values in channels.items()
    }
    windows = [window(*each) for each in zip(goal.shape, sizes, middle, strict=True)]
    return resampled, goal, windows


def _scaled(
    channels: Mapping[int, np.ndarray],
    grid: Grid,
    windows: Sequence[Window],
    config: PrepareConfig,
    *,
    is_flat: bool,
) -> tuple[dict[int, np.ndarray], Grid]:
    """Return the channels with scaled intensities, cut to size, then about the first one's head."""
    head = head_mask(next(iter(channels.values())))
    centre = [float(axis.mean()) for axis in np.nonzero(head)]
    seen = [c - start + before for c, (start, before, _) in zip(centre, windows, strict=True)]
    shape = (*config.shape[1:], 0) if is_flat else volume_shape(config)
    sizes = [size for _, _, size in windows]
    about_head = [window(*each) for each in zip(sizes, shape, seen, strict=True)]
    out = {}
    for channel, values in channels.items():
        scaled = scale(values, config.scaling)
        air = 0.0 if config.scaling == "zscore" else float(scaled.min())
        out[channel] = cut(cut(scaled, windows, fill=air), about_head, fill=air)
    return out, grid.cut(windows).cut(about_head)


def _arrays(
    image: np.ndarray,
    marked: _Marked | None,
    geometry: Geometry,
    config: PrepareConfig,
    *,
    is_flat: bool,
) -> PreparedArrays:
    """Return the prepared scan in the order of axes that its examples have."""
    grid = geometry.prepared
    label = truth = None
    if marked is not None:
        truth = marked.values.astype(np.uint8)
        label = regrid_labels(truth, marked.grid, grid)
    if is_flat:
        flat = None if label is None else label[..., 0]
        return PreparedArrays(image[..., 0], flat, (1.0, 1.0), geometry, truth)
    if config.dimension != "3d":
        axis = config.slice_axis
        image = np.moveaxis(image, axis + 1, 1)
        label = None if label is None else np.moveaxis(label, axis, 0)
        geometry = replace(geometry, prepared=grid.moved(axis, 0))
    return PreparedArrays(image, label, geometry.prepared.spacing_mm, geometry, truth)


def volume_shape(config: PrepareConfig) -> tuple[int, ...]:
    """Return the size to crop or pad to along the axes of a canonical volume; 0 keeps an axis.

    For slices, a first number of 0 says that the other two are the size within the plane.
    """
    first, *plane = config.shape
    if config.dimension == "3d" or first:
        return config.shape
    plane.insert(config.slice_axis, 0)
    return tuple(plane)


def window(size: int, wanted: int, centre: float) -> Window:
    """Return where an axis is cut: its first voxel, voxels padded before it, and the new size.

    An axis is cropped about the centre, as far as it reaches, or padded evenly; never both.
    """
    if not wanted:
        return 0, 0, size
    if size <= wanted:
        return 0, (wanted - size) // 2, wanted
    start = round(centre - (wanted - 1) / 2)
    return min(max(start, 0), size - wanted), 0, wanted


def cut(values: np.ndarray, windows: Sequence[Window], *, fill: float) -> np.ndarray:
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

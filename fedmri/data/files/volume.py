"""One image or label file, opened without trust in what it holds."""

from __future__ import annotations

import math
import stat
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from PIL import Image
from pydicom.errors import BytesLengthException, InvalidDicomError
from scipy import ndimage

from fedmri.data.dicom.series import MAX_VOXELS, is_dicom, stack_at
from fedmri.data.dicom.stack import load_series
from fedmri.data.files.label_values import classes_of
from fedmri.data.files.nifti import (
    Affine,
    Volume,
    Voxels,
    check_affine,
    misshapen,
    read_nifti,
    too_large,
    unreadable,
)
from fedmri.data.files.pictures import PICTURES, load_picture
from fedmri.data.files.pointers import refuse_pointer
from fedmri.data.target import LabelMap
from fedmri.errors import DataError

READ_ERRORS = (  # what nibabel, Pillow, pydicom and GDCM raise over damaged files, and no more
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    AssertionError,
    struct.error,
    zlib.error,
    HeaderDataError,
    ImageFileError,
    BytesLengthException,
    InvalidDicomError,
    Image.DecompressionBombError,
    Warning,  # where a caller has made them errors
)
SAMPLE_VOXELS = 200_000
MIN_SHARE = 0.005  # of voxels that differ from the rest, in an image that is not empty


def load_image(path: Path) -> tuple[Voxels, Affine]:
    """Load the intensities of a NIfTI, PNG, JPEG or TIFF file, or of a DICOM series.

    Args:
        path: The file; a DICOM series is the folder that holds it alone, or one of its files.

    Returns:
        Scaled intensities, shape ``(X, Y, Z)``, or ``(H, W)`` for a picture (colours turn gray),
        and the affine from voxel to world, RAS+ in mm (the identity for a picture).

    Raises:
        DataError: Unreadable (D07), of another dimension (D08), not finite (D09), constant or
            empty (D10), a header that no such file can have (D11), or an affine that cannot be
            used (D12); a DICOM series that is not regular (D32).
    """
    volume = read_image(path)
    return volume.voxels, volume.affine


def read_image(path: Path) -> Volume:
    """Read an image as ``load_image`` does, with what is to be said about it.

    NaN outside the head, as some programs leave it, becomes the lowest value (D74).

    Raises:
        DataError: As for ``load_image``; a header that contradicts itself (D57), a pointer to a
            file (D58), or another format (D73).
    """
    volume = _without_padding(_load(path))
    _check_intensities(volume.voxels)
    return volume


def load_label(path: Path, label_map: LabelMap) -> tuple[NDArray[np.int16], Affine]:
    """Load a mask or label map.

    Args:
        path: The file, as for ``load_image``.
        label_map: Classes, and what values mean (see ``classes_of``).

    Returns:
        Classes from 0 to the number of declared ones, and the affine, as for ``load_image``.

    Raises:
        DataError: As for ``read_image``, though a label may be empty; or values that are not
            declared (D15).
    """
    volume = read_label(path, label_map)
    return volume.voxels.astype(np.int16), volume.affine


def read_label(path: Path, label_map: LabelMap) -> Volume:
    """Read a mask or label map as ``load_label`` does, with what is to be said about it."""
    volume = _load(path, is_label=True)
    _check_finite(volume.voxels)
    return replace(volume, voxels=classes_of(volume.voxels, label_map).astype(np.float32))


def _load(path: Path, *, is_label: bool = False) -> Volume:
    refuse_pointer(path)
    try:
        if path.is_dir() or is_dicom(path):
            volume = Volume(*load_series(stack_at(path)))
        else:
            _check_file(path)
            if path.suffix.lower() in PICTURES:
                pixels = load_picture(path, MAX_VOXELS, is_label=is_label)
                volume = Volume(pixels, np.eye(4))
            else:
                volume = read_nifti(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(str(error)) from error
    except READ_ERRORS as error:
        raise unreadable(_told(path, error)) from error
    voxels = volume.voxels
    if voxels.size == 0 or voxels.ndim != (2 if path.suffix.lower() in PICTURES else 3):
        raise misshapen(f"shape {voxels.shape}")
    check_affine(volume.affine)
    return volume


def _without_padding(volume: Volume) -> Volume:
    """Return the volume with the lowest value in place of NaN that reaches the border."""
    is_nan = np.isnan(volume.voxels)
    if not is_nan.any() or is_nan.all():
        return volume
    parts, n_parts = ndimage.label(is_nan)
    at_border = [np.take(parts, side, axis) for axis in range(parts.ndim) for side in (0, -1)]
    if len(np.setdiff1d(np.concatenate([side.ravel() for side in at_border]), [0])) < n_parts:
        return volume
    filled = np.where(is_nan, np.nanmin(volume.voxels), volume.voxels)
    reason = f"{is_nan.sum()} voxels of padding are NaN and got the lowest value"
    return replace(volume, voxels=filled).told("D74", reason)


def _told(path: Path, error: BaseException) -> str:
    """Return what a library says of a file; of DICOM its kind alone, for texts quote the header."""
    kind = type(error).__name__
    is_series = path.is_dir() or is_dicom(path)
    return kind if is_series else f"{kind}: {error}"[:200]


def _check_file(path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise unreadable("no regular file")
    if status.st_size == 0:
        raise unreadable("0 bytes")


def _check_finite(voxels: Voxels) -> None:
    n_bad = voxels.size - int(np.isfinite(voxels).sum())
    if n_bad:
        fix = "convert or denoise the series again"
        found = f"{n_bad} voxels that are NaN or infinite"
        raise DataError("D09", "image", found=found, want="finite values", fix=fix)


def _check_intensities(voxels: Voxels) -> None:
    _check_finite(voxels)
    step = max(1, math.isqrt(voxels.size // SAMPLE_VOXELS))
    sample = voxels[..., ::step] if voxels.ndim == 2 else voxels[::step]
    low, high = np.quantile(sample, [MIN_SHARE, 1 - MIN_SHARE])
    if low == high:
        fix = "export the series again, or list its subject in data.check.exclude"
        found = f"{100 * (1 - MIN_SHARE):g} % of the voxels at {high:g}"
        raise DataError("D10", "image", found=found, want="something to see", fix=fix)

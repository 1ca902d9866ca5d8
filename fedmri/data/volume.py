"""One image or label file, opened without trust in what it holds."""

from __future__ import annotations

import gzip
import io
import math
import stat
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from PIL import Image
from pydicom.errors import BytesLengthException, InvalidDicomError

from fedmri.data.pictures import PICTURES, load_picture
from fedmri.data.series import is_dicom, stack_at
from fedmri.data.stack import MAX_VOXELS, load_series
from fedmri.errors import DataError

Voxels = NDArray[np.float32]
Affine = NDArray[np.float64]

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
NIFTI_HEADERS = {348: (344, b"n+1\0"), 540: (4, b"n+2\0")}  # size: (offset of the magic, magic)
HEADER_BYTES = 540
MAX_PADDING_BYTES = 2**20
MAX_DEFLATE_RATIO = 1032  # no stream of zlib expands more (zlib.net/zlib_tech.html)
SPACING_MM = (1e-3, 1e3)
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
    voxels, affine = _load(path)
    _check_intensities(voxels)
    return voxels, affine


def load_label(path: Path, n_classes: int) -> tuple[NDArray[np.int16], Affine]:
    """Load a mask or label map.

    Args:
        path: The file, as for ``load_image``.
        n_classes: Declared classes, without background. With one, the map is a mask: whatever its
            single positive value is (1 and 255 are common) becomes 1. With more, values are
            classes as they stand.

    Returns:
        Classes from 0 to ``n_classes``, and the affine, as for ``load_image``.

    Raises:
        DataError: As for ``load_image``, though a label may be empty; or values that are not
            declared (D15).
    """
    voxels, affine = _load(path, is_label=True)
    _check_finite(voxels)
    values = np.unique(voxels)
    positive = values[values != 0]
    is_mask = n_classes == 1 and len(positive) <= 1 and bool(np.all(positive > 0))
    is_declared = bool(np.isin(positive, np.arange(1, n_classes + 1)).all())
    if not (is_mask or is_declared):
        shown = ", ".join(f"{value:g}" for value in values[:8])
        fix = "declare every class of the label map in target.classes, or correct it"
        want = f"0 to {n_classes}" if n_classes > 1 else "0 and one positive value"
        raise DataError("D15", "label", found=f"values {shown}", want=want, fix=fix)
    labels = (voxels > 0) if is_mask else voxels
    return labels.astype(np.int16), affine


def _load(path: Path, *, is_label: bool = False) -> tuple[Voxels, Affine]:
    try:
        if path.is_dir() or is_dicom(path):
            voxels, affine = load_series(stack_at(path))
        else:
            _check_file(path)
            if path.suffix.lower() in PICTURES:
                voxels, affine = load_picture(path, MAX_VOXELS, is_label=is_label), np.eye(4)
            else:
                voxels, affine = _load_nifti(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(str(error)) from error
    except READ_ERRORS as error:
        raise _unreadable(_told(path, error)) from error
    if voxels.size == 0 or voxels.ndim != (2 if path.suffix.lower() in PICTURES else 3):
        raise _misshapen(f"shape {voxels.shape}")
    _check_affine(affine)
    return voxels, affine


def _told(path: Path, error: BaseException) -> str:
    """Return what a library says of a file; of DICOM its kind alone, for texts quote the header."""
    kind = type(error).__name__
    is_series = path.is_dir() or is_dicom(path)
    return kind if is_series else f"{kind}: {error}"[:200]


def _check_file(path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise _unreadable("no regular file")
    if status.st_size == 0:
        raise _unreadable("0 bytes")


def _load_nifti(path: Path) -> tuple[Voxels, Affine]:
    n_bytes = path.stat().st_size
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if is_gzip else raw
        start = stream.read(HEADER_BYTES)
        n_claimed = _claimed_bytes(start)
        if n_claimed > MAX_DEFLATE_RATIO * n_bytes:
            raise _too_large(f"a header of {n_claimed} bytes in a file of {n_bytes}")
        rest = stream.read(max(n_claimed + MAX_PADDING_BYTES - len(start), 1))
        if stream.read(1):  # at the end, gzip compares its checksum
            raise _too_large(f"more than {MAX_PADDING_BYTES} bytes after the voxels")
    content = start + rest
    if len(content) < n_claimed:
        raise _unreadable(f"{len(content)} of {n_claimed} bytes")
    kind = nib.Nifti1Image if _header_size(start) == 348 else nib.Nifti2Image
    image = kind.from_stream(io.BytesIO(content))
    _check_codes(image)
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    return voxels, np.asarray(image.affine, dtype=np.float64)


def _header_size(start: bytes) -> int:
    for order in ("little", "big"):
        size = int.from_bytes(start[:4], order)
        if size in NIFTI_HEADERS:
            offset, magic = NIFTI_HEADERS[size]
            if start[offset : offset + 4] == magic:
                return size
    raise _unreadable("no NIfTI mark in the header")


def _claimed_bytes(start: bytes) -> int:
    """Return the bytes that a file must have by its header, before anything is allocated."""
    size = _header_size(start)
    if len(start) < size:
        raise _unreadable(f"{len(start)} bytes of a header of {size}")
    kind = nib.Nifti1Header if size == 348 else nib.Nifti2Header
    header: Any = kind(start[:size], check=False)  # type: ignore[no-untyped-call]
    shape = tuple(int(length) for length in header.get_data_shape())
    dtype = header.get_data_dtype()
    if dtype.names or dtype.kind not in "iuf":
        raise _misshapen(f"voxels of type {dtype}")
    if any(length < 1 for length in shape) or len(shape) < 3:
        raise _misshapen(f"shape {shape}")
    if math.prod(shape) > MAX_VOXELS:
        raise _too_large(f"{math.prod(shape)} voxels")
    if math.prod(shape[3:]) > 1:
        raise _misshapen(f"shape {shape}")
    offset = float(header["vox_offset"])
    if not size <= offset < size + MAX_PADDING_BYTES:
        raise _too_large(f"voxels at byte {offset:g}")
    return int(offset) + math.prod(shape) * int(dtype.itemsize)


def _check_codes(image: nib.Nifti1Image) -> None:
    """Refuse two affines for one space of which one mirrors the other."""
    sform, sform_code = image.header.get_sform(coded=True)
    qform, qform_code = image.header.get_qform(coded=True)
    if sform_code and qform_code and _handedness(sform) != _handedness(qform):
        raise _bad_affine("sform and qform that mirror each other", "one handedness")


def _handedness(affine: Affine) -> bool:
    return bool(np.linalg.det(affine[:3, :3]) > 0)


def _check_affine(affine: Affine) -> None:
    if not np.isfinite(affine).all():
        raise _bad_affine("values that are not finite", "numbers")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_MM
    if spacing.min() < low or spacing.max() > high:
        shown = " x ".join(f"{length:.3g}" for length in spacing)
        raise _bad_affine(f"voxels of {shown} mm", f"{low:g} to {high:g} mm")
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 0.1:
        raise _bad_affine("axes that are not independent", "three directions")


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


def _unreadable(found: str) -> DataError:
    fix = "export or copy the file again"
    return DataError("D07", "file", found=found, want="a complete image file", fix=fix)


def _misshapen(found: str) -> DataError:
    fix = "give one gray volume or slice a file"
    return DataError("D08", "image", found=found, want="one volume or one slice", fix=fix)


def _too_large(found: str) -> DataError:
    want = f"at most {MAX_VOXELS} voxels, and what the file can hold"
    return DataError("D11", "header", found=found, want=want, fix="export the file again")


def _bad_affine(found: str, want: str) -> DataError:
    return DataError("D12", "affine", found=found, want=want, fix="convert the series again")

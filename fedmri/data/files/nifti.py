"""One NIfTI file: how its header says where voxels are, and what it leaves open."""

from __future__ import annotations

import gzip
import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fedmri.data.dicom.series import MAX_VOXELS
from fedmri.errors import DataError
from fedmri.machine.delimited import foreign_kind

Voxels = NDArray[np.float32]
Affine = NDArray[np.float64]

SPACING_MM = (0.02, 100.0)
MAX_COSINE = 0.05  # between two axes: 87 degrees
HEADERS = {348: (344, b"n+1\0"), 540: (4, b"n+2\0")}  # size: (offset of the magic, magic)
PAIR_ENDINGS = frozenset({".img", ".hdr"})
HEADER_BYTES = 540
MAX_PADDING_BYTES = 2**20
MAX_DEFLATE_RATIO = 1032  # no stream of zlib expands more (zlib.net/zlib_tech.html)

UNIT_MM = {1: ("metre", 1e3), 2: ("mm", 1.0), 3: ("micron", 1e-3)}
"""Names and sizes of the units of space, by their code in ``xyzt_units``."""

RATIO_TOLD, RATIO_REFUSED = 1.02, 1.5
"""Ratio of voxel sizes in sform and pixdim: a registration may have scaled by a fifth."""

MAX_ROUNDING = np.float64(-1e-5)
"""Least square of a quaternion's first part that is still taken for rounding."""

TALAIRACH = 3
"""From this code on, a form leads to a template and need not agree with the scanner's."""


class Header1(nib.Nifti1Header):
    """A header of NIfTI-1 that forgives rounding of a rotation."""

    quaternion_threshold = MAX_ROUNDING


class Header2(nib.Nifti2Header):
    """A header of NIfTI-2 that forgives rounding of a rotation."""

    quaternion_threshold = MAX_ROUNDING


class Image1(nib.Nifti1Image):
    """An image of NIfTI-1 with such a header."""

    header_class = Header1


class Image2(nib.Nifti2Image):
    """An image of NIfTI-2 with such a header."""

    header_class = Header2


@dataclass(frozen=True)
class Volume:
    """An image or label map as it was read.

    Attributes:
        voxels: Scaled values, shape ``(X, Y, Z)``, or ``(H, W)`` for a picture.
        affine: From voxel to world, RAS+ in mm; the identity for a picture.
        is_placed: Whether the file says where it lies. If not, the affine keeps the order of the
            array, and left and right are not known.
        remarks: Codes and reasons of what was odd and could be read all the same.
    """

    voxels: Voxels
    affine: Affine
    is_placed: bool = True
    remarks: tuple[tuple[str, str], ...] = ()

    def told(self, code: str, reason: str) -> Volume:
        """Return the volume with one more remark."""
        return replace(self, remarks=(*self.remarks, (code, reason)))


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file, compressed or not.

    Raises:
        DataError: Damaged or no NIfTI (D07), another dimension or kind of voxel (D08), a header
            that no such file can have (D11), forms that contradict each other (D12, D57), or a
            format of two files (D73).
    """
    image = _opened(path)
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    if voxels.ndim == 2:  # a slice lies as a volume of one does
        voxels = voxels[..., None]
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    return _placed(voxels, image.header)


def _opened(path: Path) -> nib.Nifti1Image:
    n_bytes = path.stat().st_size
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if is_gzip else raw
        start = stream.read(HEADER_BYTES)
        n_claimed = _claimed_bytes(start, path)
        if n_claimed > MAX_DEFLATE_RATIO * n_bytes:
            raise too_large(f"a header of {n_claimed} bytes in a file of {n_bytes}")
        rest = stream.read(max(n_claimed + MAX_PADDING_BYTES - len(start), 1))
        if stream.read(1):  # at the end, gzip compares its checksum
            raise too_large(f"more than {MAX_PADDING_BYTES} bytes after the voxels")
    content = start + rest
    if len(content) < n_claimed:
        raise unreadable(f"{len(content)} of {n_claimed} bytes")
    kind = Image1 if _header_size(start, path) == 348 else Image2
    with nib.imageglobals.LoggingOutputSuppressor():  # what is odd becomes a finding
        return kind.from_stream(io.BytesIO(content))


def _header_size(start: bytes, path: Path) -> int:
    for order in ("little", "big"):
        size = int.from_bytes(start[:4], order)
        if size in HEADERS:
            offset, magic = HEADERS[size]
            if start[offset : offset + 4] == magic:
                return size
            if start[offset : offset + 3] == b"ni" + magic[2:3]:
                raise of_another_format("a pair of .hdr and .img")
    endings = {ending.lower() for ending in path.suffixes}
    if endings & PAIR_ENDINGS:
        raise of_another_format("a pair of .hdr and .img")
    if not endings & {".nii"} and path.suffix:
        raise of_another_format(f"a file {path.suffix}")
    raise unreadable(foreign_kind(start) or "no NIfTI mark in the header")


def _claimed_bytes(start: bytes, path: Path) -> int:
    """Return the bytes that a file must have by its header, before anything is allocated."""
    size = _header_size(start, path)
    if len(start) < size:
        raise unreadable(f"{len(start)} bytes of a header of {size}")
    kind = Header1 if size == 348 else Header2
    header: Any = kind(start[:size], check=False)
    shape = tuple(int(length) for length in header.get_data_shape())
    dtype = header.get_data_dtype()
    if dtype.names or dtype.kind not in "iuf":
        raise not_gray(dtype)
    if any(length < 1 for length in shape) or len(shape) < 2:
        raise misshapen(f"shape {shape}")
    if math.prod(shape) > MAX_VOXELS:
        raise too_large(f"{math.prod(shape)} voxels")
    if math.prod(shape[3:]) > 1:
        raise misshapen(f"shape {shape}")
    if not header["sform_code"]:
        _refuse_no_place(header)
    offset = float(header["vox_offset"])
    if not size <= offset < size + MAX_PADDING_BYTES:
        raise too_large(f"voxels at byte {offset:g}")
    return int(offset) + math.prod(shape) * int(dtype.itemsize)


def _refuse_no_place(header: Any) -> None:
    """Refuse a header without sform whose other fields place no voxel (D12)."""
    if not np.all(header["pixdim"][1:4]):
        raise bad_affine("voxels of 0 mm", f"{SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm")
    if _qform(header)[0] is None:
        raise bad_affine("a qform that is no rotation, and no sform", "a rotation")


def _placed(voxels: Voxels, header: Any) -> Volume:
    """Return the volume with the affine of its header, in mm.

    The sform counts where it has a code, else the qform. With neither, the order of the array is
    kept: nibabel and others would turn left and right round.
    """
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = _qform(header)
    sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    if not sform_code and not qform_code:
        affine = np.diag([*sizes, 1.0])
        affine[:3, 3] = -(np.array(voxels.shape[:3]) - 1) / 2 * sizes
        reason = "no sform and no qform: left and right are not known, the array's order is kept"
        volume = Volume(voxels, affine, is_placed=False, remarks=(("D57", reason),))
    else:
        volume = Volume(voxels, np.asarray(sform if sform_code else qform, dtype=np.float64))
    if qform is None:
        volume = volume.told("D57", "the qform is no rotation: the sform counts")
    if sform_code:
        volume = _against_sizes(volume, sizes, int(sform_code))
    if sform_code and qform_code and qform is not None and sizes.min() > 0:
        volume = _against_qform(volume, qform, is_one_space=sform_code == qform_code)
    unit, size_mm = UNIT_MM.get(int(header["xyzt_units"]) & 7, ("mm", 1.0))
    affine = volume.affine.copy()
    affine[:3] *= size_mm
    check_affine(affine, unit)
    return replace(volume, affine=affine)


def _qform(header: Any) -> tuple[Affine | None, int]:
    """Return the qform, None where its quaternion is no rotation, and its code."""
    code = int(header["qform_code"])
    if not code:
        return np.eye(4), 0
    try:
        return header.get_qform(), code
    except ValueError:  # what nibabel raises over a quaternion that is too long
        return None, code


def check_affine(affine: Affine, unit: str = "mm") -> None:
    """Refuse an affine of no volume of a person: D12.

    Args:
        affine: From voxel to world, in mm.
        unit: What the header counts in, for the message.
    """
    if not np.isfinite(affine).all():
        raise bad_affine("values that are not finite", "numbers")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_MM
    if spacing.min() < low or spacing.max() > high:
        counted = f", counted in {unit}" if unit != "mm" else ""
        raise bad_affine(f"voxels of {shown_mm(spacing)}{counted}", f"{low:g} to {high:g} mm")
    axes = affine[:3, :3] / spacing
    if abs(np.linalg.det(axes)) < 0.1:
        raise bad_affine("axes that are not independent", "three directions")
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine > MAX_COSINE:
        angle = math.degrees(math.acos(min(cosine, 1.0)))
        raise bad_affine(
            f"sheared axes, {angle:.0f} degrees apart", "right angles, within 3 degrees"
        )


def _against_sizes(volume: Volume, sizes: NDArray[np.float64], code: int) -> Volume:
    """Compare the voxel sizes of the sform with those that the header states."""
    spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
    if sizes.min() <= 0 or not np.isfinite(spacing).all() or spacing.min() <= 0:
        return volume
    ratio = float(np.maximum(spacing / sizes, sizes / spacing).max())
    found = f"voxels of {shown_mm(spacing)} by sform and {shown_mm(sizes)} by pixdim"
    if ratio > RATIO_REFUSED:
        raise unclear(found, "one voxel size")
    is_told = ratio > RATIO_TOLD and code < TALAIRACH
    return volume.told("D57", f"{found}: the sform counts") if is_told else volume


def _against_qform(volume: Volume, qform: Affine, *, is_one_space: bool) -> Volume:
    """Compare the sform, which counts, with the qform."""
    sform = volume.affine
    if not np.isfinite(sform).all() or not np.linalg.det(sform[:3, :3]):
        return volume  # which is refused for what it is
    if _handedness(sform) != _handedness(qform):
        raise bad_affine("sform and qform that mirror each other", "one handedness")
    if not is_one_space:
        return volume
    if nib.aff2axcodes(sform) != nib.aff2axcodes(qform):
        codes = ["".join(map(str, nib.aff2axcodes(form))) for form in (sform, qform)]
        raise unclear(f"axes {codes[0]} by sform and {codes[1]} by qform", "one orientation")
    shift = shift_mm(sform, qform, volume.voxels.shape)
    if shift <= float(np.linalg.norm(sform[:3, :3], axis=0).min()) / 2:
        return volume
    return volume.told("D57", f"sform and qform lie {shift:.1f} mm apart: the sform counts")


def shift_mm(one: Affine, other: Affine, shape: tuple[int, ...]) -> float:
    """Return how far the corners of two grids of one shape lie apart, at most."""
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in shape])).reshape(len(shape), -1)
    points = np.vstack([corners, np.zeros((3 - len(corners), corners.shape[1]))])
    apart = (one - other)[:3, :3] @ points + (one - other)[:3, 3:]
    return float(np.linalg.norm(apart, axis=0).max())


def shown_mm(spacing: NDArray[np.float64]) -> str:
    """Return voxel sizes as a text."""
    return " x ".join(f"{length:.3g}" for length in spacing) + " mm"


def _handedness(affine: Affine) -> bool:
    return bool(np.linalg.det(affine[:3, :3]) > 0)


def unreadable(found: str) -> DataError:
    """Return the error about a damaged file."""
    fix = "export or copy the file again"
    return DataError("D07", "file", found=found, want="a complete image file", fix=fix)


def misshapen(found: str) -> DataError:
    """Return the error about a file of another dimension or kind of voxel."""
    fix = "give one gray volume or slice a file"
    return DataError("D08", "image", found=found, want="one volume or one slice", fix=fix)


def not_gray(dtype: np.dtype[Any]) -> DataError:
    """Return the error about voxels that are no plain numbers."""
    is_complex = dtype.kind == "c"
    found = "complex numbers" if is_complex else "colours" if dtype.names else f"type {dtype}"
    fix = "save the magnitude" if is_complex else "convert it to one gray value a voxel"
    return DataError("D08", "voxels", found=found, want="one number each", fix=fix)


def too_large(found: str) -> DataError:
    """Return the error about a header that no such file can have."""
    want = f"at most {MAX_VOXELS} voxels, and what the file can hold"
    return DataError("D11", "header", found=found, want=want, fix="export the file again")


def bad_affine(found: str, want: str) -> DataError:
    """Return the error about an affine that cannot be used."""
    return DataError("D12", "affine", found=found, want=want, fix="convert the series again")


def unclear(found: str, want: str) -> DataError:
    """Return the error about a header that contradicts itself."""
    fix = "convert the series again, or write the right affine into the header"
    return DataError("D57", "header", found=found, want=want, fix=fix)


def of_another_format(found: str) -> DataError:
    """Return the error about a format that is not read."""
    fix = "convert it to .nii.gz, as with nibabel or dcm2niix"
    return DataError("D73", "image", found=found, want=".nii or .nii.gz", fix=fix)

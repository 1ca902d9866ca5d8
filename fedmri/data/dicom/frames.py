"""Frames of DICOM files: where they lie, how their numbers are scaled, and their pixels."""

from __future__ import annotations

import locale
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813  # the name that all of its users write
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import UID, ImplicitVRLittleEndian, RLELossless

from fedmri.errors import DataError

Plane = NDArray[np.float32]

BY_ITK = frozenset(  # JPEG, JPEG-LS and JPEG 2000, which the GDCM inside SimpleITK decodes
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91)
)
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PARTS = {"P": "phase", "PHASE": "phase", "PHASE MAP": "phase", "R": "real", "REAL": "real"} | {
    "I": "imaginary",
    "IMAGINARY": "imaginary",
}

PHILIPS_SLOPE = (0x2005, 0x100E)
"""Private field: how a Philips scanner scaled a slice before it stored it."""

sitk.ProcessObject.GlobalWarningDisplayOff()  # type: ignore[no-untyped-call]  # GDCM is loud


class Fields(Protocol):
    """What has fields by their names: a data set, or the groups of a frame."""

    def get(self, key: str, /) -> Any:
        """Return a field, or None."""
        ...


@dataclass(frozen=True)
class Frame:
    """Place and scale of one frame; what is not written is None.

    Attributes:
        index: Position in its file.
        position: Of the first voxel in mm (LPS).
        orientation: Row and column direction cosines.
        spacing_mm: Distance of rows, then of columns.
        through_mm: Distance of slices, or else their thickness.
        scale: Slope and intercept; None leaves it to the fields of the file.
        vendor_slope: Further slope of the vendor, or 0; it counts where slices differ in it.
        part: ``phase``, ``real`` or ``imaginary``; ``""`` for magnitude.
        echo: Echo time in ms, and echo number.
        b_value: Diffusion weighting in s/mm².
        moment: Time point, acquisition and stack, as written.
    """

    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    through_mm: float
    scale: tuple[float, float] | None
    vendor_slope: float
    part: str
    echo: tuple[str, str]
    b_value: str
    moment: tuple[str, ...]


def frames_of(data: Dataset, n_frames: int) -> tuple[Frame, ...]:
    """Return the frames of a file: one of its own fields, or many of functional groups."""
    shared = _items(data, "SharedFunctionalGroupsSequence")
    each = _items(data, "PerFrameFunctionalGroupsSequence")
    common = [_flat(group) for group in shared]
    if not each:
        return (_frame(0, [data, *common]),) if n_frames == 1 else ()
    return tuple(_frame(index, [_flat(own), *common, data]) for index, own in enumerate(each))


def _frame(index: int, sources: Sequence[Fields]) -> Frame:
    def find(name: str) -> Any:
        return next((value for s in sources if (value := s.get(name)) not in (None, "")), None)

    kind = [str(part).upper() for part in _parts(find("FrameType") or find("ImageType"))]
    slope, intercept = find("RescaleSlope"), find("RescaleIntercept")
    if slope is None:
        slope, intercept = _real_world(find)
    names = ("TemporalPositionIndex", "TemporalPositionIdentifier", "AcquisitionNumber", "StackID")
    through = find("SpacingBetweenSlices") or find("SliceThickness")
    return Frame(
        index,
        _numbers(find("ImagePositionPatient"), 3),
        _numbers(find("ImageOrientationPatient"), 6),
        _numbers(find("PixelSpacing") or find("ImagerPixelSpacing"), 2),
        abs(float(through)) if through else 1.0,
        None if slope is None else (float(slope), float(intercept or 0)),
        _vendor_slope(sources),
        next((PARTS[part] for part in kind[2:] if part in PARTS), ""),
        (str(find("EffectiveEchoTime") or find("EchoTime") or ""), str(find("EchoNumbers") or "")),
        str(find("DiffusionBValue") or ""),
        tuple(str(find(name) or "") for name in names),
    )


def _real_world(find: Callable[[str], Any]) -> tuple[Any, Any]:
    """Return slope and intercept of a mapping to real values, where one holds for all pixels."""
    maps = find("RealWorldValueMappingSequence")
    if maps is None:  # of frames in functional groups, whose items are flat
        return find("RealWorldValueSlope"), find("RealWorldValueIntercept")
    only = maps[0] if len(maps) == 1 else {}
    return only.get("RealWorldValueSlope"), only.get("RealWorldValueIntercept")


def _vendor_slope(sources: Sequence[Fields]) -> float:
    data = next((source for source in sources if isinstance(source, Dataset)), None)
    element = data.get(PHILIPS_SLOPE) if data is not None else None
    try:
        return float(element.value) if element is not None else 0.0
    except (TypeError, ValueError):  # private fields may hold anything
        return 0.0


def _flat(groups: Dataset) -> dict[str, Any]:
    """Return the fields of a frame's functional groups in one mapping."""
    firsts = [group.value[0] for group in groups if group.VR == "SQ" and group.value]
    return {field.keyword: field.value for first in firsts for field in first}


def _items(data: Dataset, name: str) -> list[Dataset]:
    return list(data.get(name) or ())


def _parts(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    parts = _parts(value)
    return tuple(round(float(part), 4) for part in parts) if len(parts) == count else None


def text_of(data: Dataset, name: str) -> str:
    """Return a technical field as short text without odd characters."""
    text = "/".join(str(part) for part in _parts(data.get(name)) if part is not None)
    return re.sub(r"[^\w .,:+*/()-]", "", text)[:64].strip()


def planes_of(path: Path, frames: tuple[Frame, ...]) -> Iterator[tuple[Plane, bool]]:
    """Yield the frames of a file as scaled numbers, and whether white means low.

    Args:
        path: The file.
        frames: Which frames, and their scales.

    Raises:
        DataError: The pixels have colours (D08), or no decoder is installed for them (D66).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every oddity of every vendor
        data = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in data.file_meta:
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        if int(data.get("SamplesPerPixel") or 1) != 1:
            found = f"{data.SamplesPerPixel} values each"
            fix = "take the gray series instead"
            raise DataError("D08", "voxels", found=found, want="one value", fix=fix)
        values, is_scaled = _decoded(path, data)
    stacked = values.reshape(-1, *values.shape[-2:])
    is_inverse = data.get("PhotometricInterpretation") == "MONOCHROME1"
    for frame in frames:
        plane = stacked[frame.index]
        scaled = plane if is_scaled else _scaled(_unpadded(plane, data), frame, data)
        if is_scaled and is_inverse:  # GDCM has turned these round already
            scaled = -scaled.astype(np.float64)
        yield scaled.astype(np.float32), is_inverse


def _scaled(plane: NDArray[Any], frame: Frame, data: Dataset) -> NDArray[Any]:
    if frame.scale is None:
        is_table = bool(data.get("ModalityLUTSequence"))
        scaled: NDArray[Any] = apply_modality_lut(plane, data) if is_table else plane
        return scaled
    slope, intercept = frame.scale
    return plane * slope + intercept


def _unpadded(plane: NDArray[Any], data: Dataset) -> NDArray[Any]:
    """Give padding, which is no signal, the lowest value of the other pixels of its slice."""
    padding = data.get("PixelPaddingValue")
    if not isinstance(padding, int) or padding == 0:  # 0 is air as it should be
        return plane
    is_padding = plane == padding
    if not is_padding.any() or is_padding.all():
        return plane
    return np.where(is_padding, plane[~is_padding].min(), plane)


def _decoded(path: Path, data: Dataset) -> tuple[NDArray[Any], bool]:
    """Return the pixels of a file, and whether they are scaled already."""
    syntax = UID(data.file_meta.TransferSyntaxUID)
    if not syntax.is_compressed:
        _refuse_cut_off(data)
    if not syntax.is_compressed or syntax == RLELossless or get_decoder(syntax).is_available:
        return _whole_bits(data.pixel_array, data), False
    if syntax in BY_ITK:
        scales = {frame.scale for frame in frames_of(data, int(data.get("NumberOfFrames") or 1))}
        if len(scales) <= 1:
            with kept_locale():
                image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
            return sitk.GetArrayFromImage(image), True
    raise DataError(
        "D66",
        "pixels",
        found=f"compressed as {syntax.name}",
        want="a compression that this installation can undo",
        fix="pip install 'fedmri[dicom]', or export uncompressed",
    )


def _refuse_cut_off(data: Dataset) -> None:
    """Refuse pixels that are fewer than the header says (D07)."""
    n_frames = int(data.get("NumberOfFrames") or 1)
    n_pixels = n_frames * int(data.Rows) * int(data.Columns) * int(data.get("SamplesPerPixel") or 1)
    wanted = n_pixels * int(data.get("BitsAllocated") or 16) // 8
    there = next((data.get(name) for name in PIXELS if name in data), b"") or b""
    if len(there) < wanted:
        found = f"{len(there)} of {wanted} bytes of pixels"
        fix = "export or copy the file again"
        raise DataError("D07", "file", found=found, want="all of them", fix=fix)


@contextmanager
def kept_locale() -> Iterator[None]:
    """Undo what GDCM does to a process: it leaves the locale C, in which files have no umlauts."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def _whole_bits(values: NDArray[Any], data: Dataset) -> NDArray[Any]:
    """Take away overlays that old files keep in the spare bits of pixels."""
    n_stored, n_all = int(data.get("BitsStored") or 16), int(data.get("BitsAllocated") or 16)
    spare = [e for e in data if e.tag.group & 0xFF01 == 0x6000 and e.tag.element == 0x0102]
    is_mixed = any(int(e.value or 0) for e in spare) and n_stored < n_all
    if not is_mixed or data.get("PixelRepresentation"):
        return values
    shift = int(data.get("HighBit") or n_stored - 1) + 1 - n_stored
    masked: NDArray[Any] = (values >> shift) & (2**n_stored - 1)
    return masked

"""A DICOM series: what may be read of its headers, and its volume."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813  # the name that all of its users write
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from fedmri.errors import DataError

TECHNICAL = (
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "MagneticFieldStrength",
    "SequenceName",
    "ScanningSequence",
    "RepetitionTime",
    "EchoTime",
    "FlipAngle",
    "SliceThickness",
    "PixelSpacing",
)
"""Header fields that survive the reading; no name, date, number or free text of a person."""
GEOMETRY = ("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "SamplesPerPixel")
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber")
IDENTITY = ("SeriesInstanceUID", "PatientID")  # used for grouping, kept nowhere
NO_IMAGE = frozenset({"SR", "PR", "KO", "DOC", "REG", "RTSTRUCT", "RTPLAN", "PLAN"})
MAX_VOXELS = 2**29
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
GAP_TOLERANCE = 0.1

sitk.ProcessObject.GlobalWarningDisplayOff()  # type: ignore[no-untyped-call]  # GDCM is loud


@dataclass(frozen=True)
class Slice:
    """One DICOM file of a series.

    Attributes:
        path: The file.
        series: Series it belongs to; never leaves the reading.
        patient: Patient number as written; never leaves the reading.
        technical: The technical fields that are there, as text.
        shape: Frames, rows and columns.
        orientation: Row and column direction cosines, or None.
        position: Of the first voxel in mm (LPS), or None.
        number: Instance number, or 0.
        n_bytes: Bytes that the pixels take uncompressed; 0 where they are compressed.
    """

    path: Path
    series: str
    patient: str
    technical: Mapping[str, str]
    shape: tuple[int, int, int]
    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    number: int
    n_bytes: int


def is_dicom(path: Path) -> bool:
    """Tell whether a file starts as DICOM files do."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def image_header(path: Path) -> Slice | None:
    """Read the technical header of a DICOM file, and nothing of its pixels.

    Args:
        path: The file.

    Returns:
        What is needed of it; None where it holds no image, such as a report.

    Raises:
        DataError: It is not DICOM, or an image without a size (D07).
    """
    if not is_dicom(path):
        raise _unreadable("no DICOM mark after the preamble", "a DICOM file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every oddity of every vendor
        tags = [*TECHNICAL, *GEOMETRY, *PLACE, *IDENTITY]
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
        if not data.get("Rows") or not data.get("Columns"):
            if data.get("Modality") in NO_IMAGE:
                return None
            raise _unreadable("no rows and columns", "an image")
        shape = (int(data.get("NumberOfFrames") or 1), int(data.Rows), int(data.Columns))
        n_samples = int(data.get("SamplesPerPixel") or 1)
        size = int(np.prod(shape)) * n_samples * int(data.get("BitsAllocated") or 16) // 8
        return Slice(
            path,
            str(data.get("SeriesInstanceUID", "")),
            str(data.get("PatientID", "")),
            {name: text for name in TECHNICAL if (text := _text(data, name))},
            shape,
            _numbers(data, "ImageOrientationPatient", 6),
            _numbers(data, "ImagePositionPatient", 3),
            int(data.get("InstanceNumber") or 0),
            0 if data.file_meta.TransferSyntaxUID.is_compressed else size,
        )


def load_series(slices: Sequence[Slice]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Load the volume of a series.

    Args:
        slices: Files of one series, in any order.

    Returns:
        Voxels, shape ``(X, Y, Z)``, rescaled as the header says, and the affine to RAS+ in mm.

    Raises:
        DataError: Pixels are missing (D07), the header claims too much (D11), or slices are
            missing, doubled or do not fit each other (D32).
    """
    ordered = _in_order(slices)
    for one in ordered:
        if one.n_bytes > one.path.stat().st_size:
            found = f"{one.path.stat().st_size} of {one.n_bytes} bytes of pixels"
            raise _unreadable(found, "all of them")
    reader: Any = sitk.ImageSeriesReader()  # type: ignore[no-untyped-call]
    reader.SetFileNames([str(one.path) for one in ordered])
    image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() != 3:
        n = image.GetNumberOfComponentsPerPixel()
        fix = "take the gray series instead"
        raise DataError("D08", "voxels", found=f"{n} values each", want="one value", fix=fix)
    voxels = sitk.GetArrayFromImage(image).astype(np.float32).transpose(2, 1, 0)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return voxels, LPS_TO_RAS @ affine


def _in_order(slices: Sequence[Slice]) -> list[Slice]:
    """Sort slices along their normal, and refuse a series that is not one regular volume."""
    first = slices[0]
    if sum(int(np.prod(one.shape)) for one in slices) > MAX_VOXELS:
        fix = "convert the series again"
        found = f"{len(slices)} x {first.shape} voxels"
        raise DataError("D11", "header", found=found, want=f"at most {MAX_VOXELS}", fix=fix)
    if len(slices) == 1:
        return list(slices)
    if len({(one.shape, one.orientation) for one in slices}) > 1 or first.shape[0] > 1:
        raise _irregular("slices of different size or direction")
    if first.orientation is None or any(one.position is None for one in slices):
        raise _irregular("slices without a position")
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    heights = {one.path: float(np.dot(normal, one.position or ())) for one in slices}
    ordered = sorted(slices, key=lambda one: (heights[one.path], one.number))
    gaps = np.diff([heights[one.path] for one in ordered])
    if gaps.min() <= GAP_TOLERANCE * np.median(gaps):
        raise _irregular("two slices at one position")
    if gaps.max() > (1 + GAP_TOLERANCE) * np.median(gaps) + 1e-3:
        raise _irregular(f"a gap of {gaps.max():.2f} mm, elsewhere {np.median(gaps):.2f} mm")
    return ordered


def _text(data: Dataset, name: str) -> str:
    value = data.get(name)
    parts = value if isinstance(value, MultiValue) else [value]
    text = "/".join(str(part) for part in parts if part is not None)
    return re.sub(r"[^\w .,:+*/()-]", "", text)[:64].strip()


def _numbers(data: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    value = data.get(name)
    if value is None or len(value) != count:
        return None
    return tuple(round(float(number), 4) for number in value)


def _irregular(found: str) -> DataError:
    fix = "export the series again, or list its subject in data.check.exclude"
    return DataError("D32", "series", found=found, want="one regular stack of slices", fix=fix)


def _unreadable(found: str, want: str) -> DataError:
    return DataError("D07", "file", found=found, want=want, fix="export the series again")

"""A DICOM file: what may be read of its header, and which files make one volume.

A series may hold several volumes: echoes, magnitude and phase, b-values. Where slices lie at one
place twice, these tell the volumes apart.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID

from fedmri.data.dicom.contrast import Look, look_of
from fedmri.data.dicom.frames import PHILIPS_SLOPE, Frame, frames_of, text_of
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
READ = (  # beside TECHNICAL; for grouping and choosing, kept nowhere
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"),
    *("PatientName", "PatientBirthDate", "PatientSex"),
    *("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "SamplesPerPixel", "ImageType"),
    *("PhotometricInterpretation", "RealWorldValueMappingSequence", PHILIPS_SLOPE),
    *("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "ImagerPixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "SpacingBetweenSlices", "AcquisitionNumber"),
    *("SeriesDescription", "ProtocolName", "ContrastBolusAgent", "InversionTime", "EchoNumbers"),
    *("DiffusionBValue", "TemporalPositionIdentifier", "DirectoryRecordSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
OF_OTHER_MACHINES = frozenset(
    {"US", "PT", "NM", "CR", "DX", "MG", "XA", "RF", "ES", "XC", "OP", "OCT", "SM", "GM", "IVUS"}
)
"""Modalities of machines that are no MR scanners; CT is told by a finding of its own."""
NO_IMAGE = frozenset({"SR", "PR", "KO", "DOC", "REG", "RTSTRUCT", "RTPLAN", "PLAN"})
OTHER_CLASSES = (  # words in the names of storage classes whose pixels are no scan of a scanner
    "Secondary Capture",
    "Segmentation",
    "RT ",
    "Presentation",
    "Raw Data",
    "Spectroscopy",
    "Encapsulated",
    "Surface",
    "Photographic",
    "Waveform",
)
MAX_VOXELS = 2**29
MIN_SINGLES = 3
"""Series of one file each from which on they are taken for slices of one."""
MARK = b"DICM"
META_GROUP, MAX_FIRST = 2, 1024
STARTS = tuple(
    bytes([group, 0, element, 0])
    for group, elements in ((2, (0, 1, 2, 3, 0x10)), (8, (0, 1, 5, 8, 0x16)))
    for element in elements
)
"""First tags of files that lack the preamble, as old exports and stripped files do."""


@dataclass(frozen=True)
class Slice:
    """One DICOM file of a series.

    Attributes:
        path: The file.
        series: Series it belongs to; never leaves the reading.
        study: Examination it belongs to; never leaves the reading.
        instance: Number of the file; never leaves the reading.
        patient: Patient number as written; never leaves the reading.
        person: Name, day of birth and sex as written, or ``""`` without that day; never leaves.
        technical: The technical fields that are there, as text.
        shape: Frames, rows and columns.
        frames: Place and scale of each frame.
        look: What tells the contrast; its text never leaves the reading.
        number: Instance number, or 0.
        n_bytes: Bytes that the pixels take uncompressed; 0 where they are compressed.
    """

    path: Path
    series: str
    study: str
    instance: str
    patient: str
    person: str
    technical: Mapping[str, str]
    shape: tuple[int, int, int]
    frames: tuple[Frame, ...]
    look: Look = field(repr=False)
    number: int = 0
    n_bytes: int = 0


def is_dicom(path: Path) -> bool:
    """Tell whether a file starts as DICOM files do, with or without the preamble."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(132)
    return start[128:] == MARK or (start[:4] in STARTS and len(start) == 132 and _is_field(start))


def _is_field(start: bytes) -> bool:
    """Whether a file without preamble goes on as its first field must: a type, or a length."""
    n_bytes = int.from_bytes(start[4:8], "little")
    is_implicit = start[0] != META_GROUP and 0 < n_bytes <= MAX_FIRST and n_bytes % 2 == 0
    return start[4:6] in (b"UL", b"OB", b"UI", b"CS", b"SH") or is_implicit


def image_header(path: Path) -> Slice | str:
    """Read the technical header of a DICOM file, and nothing of its pixels.

    Args:
        path: The file.

    Returns:
        What is needed of it; for a file that is no scan, such as a report or a screenshot, what it
        is instead.

    Raises:
        DataError: It is not DICOM, or an image without a size (D07).
    """
    if not is_dicom(path):
        raise unreadable("no DICOM mark after the preamble", "a DICOM file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every oddity of every vendor
        tags = [Tag(name) for name in (*TECHNICAL, *READ)]
        data = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
        if other := _other_kind(data):
            return other
        if not data.get("Rows") or not data.get("Columns"):
            raise unreadable("no rows and columns", "an image")
        return _slice(path, data)


def _slice(path: Path, data: Dataset) -> Slice:
    shape = (int(data.get("NumberOfFrames") or 1), int(data.Rows), int(data.Columns))
    n_samples = int(data.get("SamplesPerPixel") or 1)
    size = int(np.prod(shape)) * n_samples * int(data.get("BitsAllocated") or 16) // 8
    syntax = UID(data.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))
    is_packed = syntax.is_compressed or syntax.is_deflated
    return Slice(
        path,
        str(data.get("SeriesInstanceUID", "")),
        str(data.get("StudyInstanceUID", "")),
        str(data.get("SOPInstanceUID", "")),
        str(data.get("PatientID", "") or ""),
        _person(data),
        {name: text for name in TECHNICAL if (text := text_of(data, name))},
        shape,
        frames_of(data, shape[0]),
        look_of(data, path.parent.name),
        _instance_number(data),
        0 if is_packed else size,
    )


def _instance_number(data: Dataset) -> int:
    """Return the number, or 0: of slices in order it is not needed, so a text costs no patient."""
    try:
        return int(data.get("InstanceNumber") or 0)
    except (TypeError, ValueError):
        return 0


def _person(data: Dataset) -> str:
    day = str(data.get("PatientBirthDate") or "")
    words = (str(data.get("PatientName") or ""), day, str(data.get("PatientSex") or ""))
    return "/".join(words).upper() if day else ""


def _other_kind(data: Dataset) -> str:
    """Return what a file is that is no scan, or ``""``."""
    name = UID(str(data.get("SOPClassUID", ""))).name
    if any(word in name for word in OTHER_CLASSES):
        return name.removesuffix(" Storage")
    if "DirectoryRecordSequence" in data:
        return "index of a disc"
    if data.get("Modality") in OF_OTHER_MACHINES:
        return f"images of another machine ({data.Modality})"
    if data.get("Rows"):
        return ""
    if data.get("Modality") in NO_IMAGE:
        return f"{data.Modality} without an image"
    return name if name and "Image Storage" not in name else ""


def stacks(slices: Iterable[Slice]) -> list[tuple[Slice, ...]]:
    """Divide files into those that make one volume each.

    Args:
        slices: Files of one folder, in any order. A file that is there twice counts once.

    Returns:
        Volumes in the order of their first files' names.
    """
    series: dict[str, list[Slice]] = defaultdict(list)
    seen: set[str] = set()
    for one in sorted(slices, key=lambda each: each.path.name):
        if not one.instance or one.instance not in seen:
            seen.add(one.instance)
            series[one.series].append(one)
    series = _rejoined(series)
    found = [tuple(part) for group in series.values() for part in _volumes(group)]
    return sorted(found, key=lambda part: part[0].path.name)


def _rejoined(series: dict[str, list[Slice]]) -> dict[str, list[Slice]]:
    """Put slices together again that an anonymiser gave a series number each."""
    if len(series) < MIN_SINGLES or any(len(group) > 1 for group in series.values()):
        return series
    joined: dict[str, list[Slice]] = defaultdict(list)
    for (one,) in series.values():
        frame = one.frames[0] if one.frames else None
        joined[repr((one.look.raw, one.look.times_ms, frame and frame.orientation))].append(one)
    return joined


def _volumes(group: Sequence[Slice]) -> list[list[Slice]]:
    """Divide a series where places repeat, if what differs makes equally large volumes."""
    if not all(one.frames for one in group):
        return [list(group)]
    places = [one.frames[0].position for one in group]
    if len(group) == len(set(places)):
        return [list(group)]
    for trait in ("part", "echo", "b_value"):
        parts: dict[object, list[Slice]] = defaultdict(list)
        for one in group:
            parts[getattr(one.frames[0], trait)].append(one)
        if len(parts) > 1 and len({len(part) for part in parts.values()}) == 1:
            return [volume for part in parts.values() for volume in _volumes(part)]
    return [list(group)]


def stack_at(path: Path) -> tuple[Slice, ...]:
    """Return the files of a volume.

    Args:
        path: The folder that holds it alone, or one of its files.

    Raises:
        DataError: There is none there, or a folder holds several (D07).
    """
    folder = path if path.is_dir() else path.parent
    files = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and is_dicom(p)]
    headers = [header for file in files if isinstance(header := image_header(file), Slice)]
    wanted = [part for part in stacks(headers) if path in (folder, *(one.path for one in part))]
    if len(wanted) != 1:
        raise unreadable(f"{len(wanted)} DICOM series in the folder", "one series")
    return wanted[0]


def unreadable(found: str, want: str) -> DataError:
    """Return the error about a file whose content is not what it should be."""
    return DataError("D07", "file", found=found, want=want, fix="export the series again")

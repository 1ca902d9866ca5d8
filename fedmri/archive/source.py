"""The DICOM series behind a prediction: whose it is, where it lies, and which file is which slice.

A result in DICOM belongs to the patient, the study and the frame of reference of its series. So all
of them must be one and known before anything is predicted.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fedmri.data.dicom.frames import Frame
from fedmri.data.dicom.series import Slice, is_dicom, stack_at
from fedmri.data.dicom.stack import MAX_DRIFT, drift_of, load_series, ordered
from fedmri.data.files.volume import READ_ERRORS
from fedmri.errors import DataError

BLANK = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName", "Manufacturer"),
)
"""What a result says of patient and study; a series may lack it, and then it is left blank."""
NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns")


@dataclass(frozen=True)
class Source:
    """A series in the order of a volume's slices.

    Attributes:
        files: Its files, as the reader has them.
        headers: The same without pixels, in the order of slices; one for a file of many frames.
        frames: Position of each slice's frame in its file, from the lowest slice to the highest.
        is_straightened: Whether the slices were moved onto another grid (gantry tilt).
    """

    files: tuple[Slice, ...]
    headers: tuple[Dataset, ...]
    frames: tuple[int, ...]
    is_straightened: bool

    @property
    def first(self) -> Dataset:
        """Header that says patient, study and frame of reference."""
        return self.headers[0]

    @property
    def is_multi_frame(self) -> bool:
        """Whether one file holds all slices."""
        return len(self.headers) == 1 and len(self.frames) > 1

    def planes(self, volume: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return a volume ``(X, Y, Z)`` as frames ``(Z, rows, columns)`` in the headers' order."""
        stacked = volume.transpose(2, 1, 0)
        if not self.is_multi_frame:
            return stacked
        placed = np.empty_like(stacked)
        placed[list(self.frames)] = stacked
        return placed

    def volume(self) -> NDArray[np.float32]:
        """Return the series' own voxels, shape ``(X, Y, Z)``."""
        return load_series(self.files)[0]


def source_of(paths: Sequence[Path], patient: str = "") -> Source:
    """Return the series that a scan's results belong to: that of its first image.

    Args:
        paths: Folder or first file of each image of a scan, the first one first.
        patient: Number that the patient must have; ``""`` takes any.

    Raises:
        DataError: An image is no DICOM series, or not one that results can refer to (D85); its
            files, or those of two images, are of several patients or of another one than wanted
            (D86); they lie in several frames of reference or name none (D87).
    """
    sources = [_series_at(path) for path in paths]
    every = [header for source in sources for header in source.headers]
    _refuse_other_patients(every, patient)
    _refuse_other_frames(every)
    return sources[0]


def _series_at(path: Path) -> Source:
    if not _is_series(path):
        raise _no_series(f"{path.name}, which is no DICOM series")
    try:
        files = stack_at(path)
        order = ordered(files)
    except READ_ERRORS as error:  # whose text may quote the header
        raise _no_series(f"a file that cannot be read ({type(error).__name__})") from None
    numbers = [number for number, _ in order]
    frames: list[Frame] = [frame for _, frame in order]
    if len(files) > 1 and any(len(one.frames) > 1 for one in files):
        raise _no_series("several files of many frames each")
    headers = tuple(_header(files[number].path) for number in dict.fromkeys(numbers))
    if lost := [name for name in NEEDED if any(not header.get(name) for header in headers)]:
        raise _no_series(f"headers without {', '.join(lost)}")
    is_moved = bool(np.abs(drift_of(frames)).max() > MAX_DRIFT)
    return Source(files, headers, tuple(frame.index for frame in frames), is_moved)


def _is_series(path: Path) -> bool:
    if path.is_dir():
        return any(is_dicom(file) for file in path.iterdir())
    return is_dicom(path)


def _header(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every oddity of every vendor
        data = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        for name in BLANK:
            if name not in data:
                setattr(data, name, "")
    return data


def _refuse_other_patients(headers: Sequence[Dataset], patient: str) -> None:
    """Refuse files of several patients, or of another one; no number is told."""
    found = {str(header.PatientID or "") for header in headers}
    what, fix = "patient of a series", "check whose series it is, and export it again"
    if len(found) > 1:
        raise DataError("D86", what, found=f"{len(found)} numbers", want="one patient", fix=fix)
    if patient and found != {patient}:
        want = "the patient that was asked for"
        raise DataError("D86", what, found="another number", want=want, fix=fix)


def _refuse_other_frames(headers: Sequence[Dataset]) -> None:
    found = {str(header.get("FrameOfReferenceUID") or "") for header in headers}
    studies = {str(header.get("StudyInstanceUID") or "") for header in headers}
    what, fix = "frame of reference of a series", "export the series again, with its own header"
    want = "one frame of reference, in one study"
    if len(found) > 1 or "" in found:
        shown = "none" if found == {""} else f"{len(found)} of them"
        raise DataError("D87", what, found=shown, want=want, fix=fix)
    if len(studies) > 1 or "" in studies:
        shown = "no study" if studies == {""} else f"{len(studies)} studies"
        raise DataError("D87", what, found=shown, want=want, fix=fix)


def _no_series(found: str) -> DataError:
    fix = "name the folder of a DICOM series, or leave DICOM results out"
    want = "a DICOM series that a result can refer to"
    return DataError("D85", "input for DICOM results", found=found, want=want, fix=fix)

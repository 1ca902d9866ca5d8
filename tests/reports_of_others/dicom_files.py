"""DICOM files as scanners and archives write them, small and made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage, generate_uid

from tests.data.worlds import dicom_slice, volume

Edit = Callable[[FileDataset, int], object]
N_SLICES = 6


def truth(seed: int) -> NDArray[np.float32]:
    """Return what the series of a seed shows, shape ``(X, Y, Z)``; rows of the file are y."""
    return volume(seed)[:, :, :N_SLICES].transpose(1, 0, 2).astype(np.float32)


def keep(_: FileDataset, __: int) -> None:
    """Leave a slice as it is."""


def series(
    folder: Path,
    seed: int,
    *,
    edit: Edit = keep,
    name: str = "{index}.dcm",
    says: str = "t2_flair",
) -> None:
    """Write a series of six slices; its patient number is made of the folder, site and subject.

    Args:
        folder: Where to, and what its numbers are made of.
        seed: Of its voxels.
        edit: Changes each slice before it is written.
        name: Of the files, with ``{index}`` or ``{uid}``.
        says: Series description.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = "A" if "A" in folder.parts else "B" if "B" in folder.parts else "C"
    number = "-".join(folder.parts[folder.parts.index(place) :][:2])
    for index in range(N_SLICES):
        data = dicom_slice(seed, index, f"{folder}/{seed}/{says}", number)
        data.SeriesDescription = says
        data.StudyInstanceUID = generate_uid(entropy_srcs=[number])
        del data.ScanningSequence, data.RepetitionTime
        edit(data, index)
        path = folder / name.format(index=index, uid=data.SOPInstanceUID)
        pydicom.dcmwrite(path, data)


def fields(**values: object) -> Edit:
    """Return an edit that sets fields of every slice."""

    def edit(data: FileDataset, _: int) -> None:
        for field, value in values.items():
            setattr(data, field, value)

    return edit


def pixels(data: Dataset, values: NDArray[np.generic]) -> None:
    """Store pixels of sixteen bits."""
    data.PixelData = np.ascontiguousarray(values).tobytes()


def plane(data: FileDataset) -> NDArray[np.float64]:
    """Return the pixels of a slice that was not edited yet."""
    return np.asarray(data.pixel_array, dtype=np.float64)


def enhanced(
    path: Path,
    seeds: Sequence[int],
    *,
    order: Sequence[tuple[int, int]] = (),
    scales: Sequence[float] = (),
    marks: Sequence[str] = ("ORIGINAL", "PRIMARY", "M", "NONE"),
) -> None:
    """Write one file of many frames.

    Args:
        path: The file.
        seeds: Of its echoes, which lie in one place.
        order: Echo and slice of each frame.
        scales: Slope of each frame, by slice; 1 where it is empty.
        marks: Image type.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = dicom_slice(seeds[0], 0, str(path), f"number-{path}"[-60:])
    frames = list(order) or [(e, k) for e in range(len(seeds)) for k in range(N_SLICES)]
    groups, planes = [], []
    for echo, index in frames:
        slope = scales[index] if scales else 1.0
        one = dicom_slice(seeds[echo], index, str(path))
        planes.append(np.round(plane(one) / slope).astype(np.uint16))
        groups.append(_groups(one, echo, index, slope))
    shared = _groups_of_all(data)
    for field in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(data, field)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.SeriesDescription, data.ImageType = "t2_flair", list(marks)
    data.NumberOfFrames = len(frames)
    data.SharedFunctionalGroupsSequence = Items([shared])
    data.PerFrameFunctionalGroupsSequence = Items(groups)
    pixels(data, np.stack(planes))
    pydicom.dcmwrite(path, data)


def _groups(one: FileDataset, echo: int, index: int, slope: float) -> Dataset:
    groups = Dataset()
    groups.PlanePositionSequence = _item(ImagePositionPatient=one.ImagePositionPatient)
    groups.FrameContentSequence = _item(StackID="1", InStackPositionNumber=index + 1)
    groups.MREchoSequence = _item(EffectiveEchoTime=20.0 * (echo + 1))
    groups.PixelValueTransformationSequence = _item(RescaleSlope=slope, RescaleIntercept=0)
    return groups


def _groups_of_all(one: FileDataset) -> Dataset:
    groups = Dataset()
    groups.PlaneOrientationSequence = _item(ImageOrientationPatient=one.ImageOrientationPatient)
    groups.PixelMeasuresSequence = _item(PixelSpacing=one.PixelSpacing, SliceThickness="4")
    return groups


def _item(**values: object) -> Items:
    item = Dataset()
    for field, value in values.items():
        setattr(item, field, value)
    return Items([item])

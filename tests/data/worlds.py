"""Small data sets of good scans, one per layout, that tests then spoil."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scipy import ndimage

N_GOOD = 4
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def volume(seed: int, shape: tuple[int, ...] = (16, 16, 16)) -> NDArray[np.int16]:
    """Return smooth noise that no other seed comes near to."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return np.asarray(500 + 400 * smooth / np.abs(smooth).max(), dtype=np.int16)


def mask(seed: int) -> NDArray[np.uint8]:
    """Return a mask of the brighter half of a volume."""
    return np.asarray(volume(seed) > 500, dtype=np.uint8)


def save(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> None:
    """Write a NIfTI file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def scan_path(root: Path, subject: str, suffix: str = "T1w") -> Path:
    """Return where a BIDS data set keeps a subject's image."""
    return root / f"sub-{subject}" / "anat" / f"sub-{subject}_{suffix}.nii.gz"


def mask_path(root: Path, subject: str) -> Path:
    """Return where a BIDS data set keeps a subject's mask."""
    return scan_path(root / "derivatives" / "manual", subject, "mask")


def add_subject(root: Path, subject: str, seed: int) -> None:
    """Write image and mask of a subject."""
    save(scan_path(root, subject), volume(seed))
    save(mask_path(root, subject), mask(seed))


def write_table(root: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write ``participants.tsv``; the first row names the columns."""
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    root.mkdir(parents=True, exist_ok=True)
    (root / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def bids_rows(subjects: Sequence[str]) -> list[dict[str, str]]:
    """Return a row for each subject, all of site A."""
    return [{"participant_id": f"sub-{s}", "site": "A", "age": "40", "sex": "F"} for s in subjects]


def bids_world(root: Path) -> None:
    """Write good subjects g0 to g3 and one more, called xbad, that is good as yet."""
    names = [f"g{index}" for index in range(N_GOOD)]
    for seed, name in enumerate([*names, "xbad"]):
        add_subject(root, name, seed)
    write_table(root, bids_rows([*names, "xbad"]))


def picture(seed: int) -> NDArray[np.uint8]:
    """Return a gray picture that no other seed comes near to."""
    return np.asarray(volume(seed, (40, 40)) // 4, dtype=np.uint8)


def save_picture(path: Path, pixels: NDArray[np.generic]) -> None:
    """Write a picture and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def image_rows(names: Sequence[str]) -> list[dict[str, str]]:
    """Return a row for each ``class/name``, each its own patient."""
    return [{"file": name, "patient": f"p-{Path(name).stem}"} for name in names]


def image_world(root: Path) -> None:
    """Write sites A and B with two good patients each, and a patient called xbad in site B."""
    names = {
        "A": ["one/g0.png", "two/g1.png"],
        "B": ["one/g2.png", "two/g3.png", "one/xbad.png"],
    }
    seed = 0
    for site, files in names.items():
        for name in files:
            save_picture(root / site / name, picture(seed))
            seed += 1
        write_table(root / site, image_rows(files))


def dicom_slice(seed: int, index: int, series: str, patient: str = "CANARY-ID") -> FileDataset:
    """Return one axial slice of a made-up series, with a patient's name to be lost."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(index)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = MRImageStorage
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
    data.StudyInstanceUID = generate_uid(entropy_srcs=[series, "study"])
    data.PatientName, data.PatientID = "CANARY^NAME", patient
    data.PatientBirthDate, data.StudyDate = "19010203", "19040506"
    data.StudyDescription = data.SeriesDescription = "CANARY TEXT"
    data.InstitutionName, data.StationName = "CANARY HOSPITAL", "CANARY STATION"
    data.Modality, data.Manufacturer, data.ManufacturerModelName = "MR", "ACME", "Field 3"
    data.MagneticFieldStrength, data.RepetitionTime, data.EchoTime = "3.0", "2000", "30"
    data.ScanningSequence, data.FlipAngle = ["SE", "IR"], "90"
    data.Rows = data.Columns = 16
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelSpacing, data.SliceThickness = [1.5, 1.25], "4"
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [10, 20, 30 + 4 * index]
    data.InstanceNumber = 100 - index  # numbers run against positions, as some scanners do
    data.PixelData = volume(seed)[:, :, index].astype(np.uint16).tobytes()
    return data


def add_series(folder: Path, seed: int, n_slices: int = 6, patient: str = "CANARY-ID") -> None:
    """Write a series into a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(n_slices):
        pydicom.dcmwrite(folder / f"{index}.dcm", dicom_slice(seed, index, folder.name, patient))


def dicom_world(root: Path) -> None:
    """Write site A with good subjects and one called xbad."""
    for seed, name in enumerate([*(f"g{index}" for index in range(N_GOOD)), "xbad"]):
        add_series(root / "A" / name, seed, patient=f"CANARY-{name}")
    rows = bids_rows([f"g{index}" for index in range(N_GOOD)] + ["xbad"])
    write_table(root, rows)

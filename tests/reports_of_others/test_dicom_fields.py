"""Fields of DICOM headers that scale, mark or hide pixels, as others found them misread."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

from fedmri.data.files.volume import load_image
from fedmri.data.scans import ScanTable
from tests.reports_of_others.dicom_files import (
    N_SLICES,
    Edit,
    enhanced,
    fields,
    pixels,
    plane,
    series,
    truth,
)
from tests.reports_of_others.test_dicom_series import found, told

SLOPES = [0.5 * (index + 1) for index in range(N_SLICES)]


def real_world(slope: float) -> Items:
    """Return a mapping to real values."""
    item = Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, 0.0
    return Items([item])


def mapped_by_slice(data: FileDataset, index: int) -> None:
    """Scale each slice by a mapping to real values alone."""
    data.RealWorldValueMappingSequence = real_world(SLOPES[index])
    pixels(data, np.round(plane(data) / SLOPES[index]).astype(np.uint16))


def mapped_by_frame(folder: Path) -> None:
    """Scale each frame of one file by a mapping to real values alone."""
    enhanced(folder / "a.dcm", [1])
    data = pydicom.dcmread(folder / "a.dcm")
    stored = data.pixel_array.astype(float)
    for index, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        del group.PixelValueTransformationSequence
        group.RealWorldValueMappingSequence = real_world(SLOPES[index])
        stored[index] /= SLOPES[index]
    pixels(data, np.round(stored).astype(np.uint16))
    pydicom.dcmwrite(folder / "a.dcm", data)


def philips(slope_of: Callable[[int], float]) -> Edit:
    """Return an edit that stores slices as a Philips scanner does, in units of their own."""

    def edit(data: FileDataset, index: int) -> None:
        data.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(
            0x0E, "FL", slope_of(index)
        )
        data.Manufacturer, data.RescaleSlope, data.RescaleIntercept = "Philips", 1, 0
        pixels(data, np.round(plane(data) * slope_of(index)).astype(np.uint16))

    return edit


def empty_slope(data: FileDataset, _: int) -> None:
    """Write the fields of the scale, and nothing into them."""
    data.RescaleSlope = data.RescaleIntercept = None


def numbered_by_text(folder: Path) -> None:
    """Write letters where the number of a slice belongs."""
    series(folder, 1)
    for path in folder.iterdir():
        raw = path.read_bytes()
        start = raw.index(b"\x20\x00\x13\x00IS") + 6
        length = int.from_bytes(raw[start : start + 2], "little")
        path.write_bytes(
            raw[: start + 2] + b"ab"[:length].ljust(length) + raw[start + 2 + length :]
        )


def big_endian(folder: Path) -> None:
    """Store the largest byte first, as old workstations did."""
    series(folder, 1)
    for path in folder.iterdir():
        old = pydicom.dcmread(path)
        values = plane(old)
        old.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        new = FileDataset(str(path), {}, file_meta=old.file_meta, preamble=b"\0" * 128)
        new.update({key: old[key] for key in old.keys()})  # noqa: SIM118  # of a data set
        new.PixelData = values.astype(">u2").tobytes()
        pydicom.dcmwrite(path, new, implicit_vr=False, little_endian=False, force_encoding=True)


def deflated(folder: Path) -> None:
    """Compress the whole file, header and all."""
    series(folder, 1)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(path)


def floats(data: FileDataset, _: int) -> None:
    """Store pixels as single precision."""
    values = plane(data).astype(np.float32)
    del data.PixelData, data.BitsStored, data.HighBit
    data.BitsAllocated, data.FloatPixelData = 32, values.tobytes()


RIGHT: dict[str, Callable[[Path], object]] = {
    "real values by slice": lambda f: series(f, 1, edit=mapped_by_slice),
    "real values by frame": mapped_by_frame,
    "Philips, one unit": lambda f: series(f, 1, edit=philips(lambda _: 2.0)),
    "Philips, a unit for each slice": lambda f: series(f, 1, edit=philips(lambda i: 8.0 + i)),
    "slope without a value": lambda f: series(f, 1, edit=empty_slope),
    "letters for the number of a slice": numbered_by_text,
    "big endian": big_endian,
    "deflated": deflated,
    "floats": lambda f: series(f, 1, edit=floats),
    "other character set": lambda f: series(
        f, 1, edit=fields(SpecificCharacterSet="ISO_IR 100", PatientName="M\u00fcller^J\u00f6rg")
    ),
    "thicker than apart": lambda f: series(
        f, 1, edit=fields(SliceThickness="8", SpacingBetweenSlices="4")
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_slices_have_one_unit(name: str, tmp_path: Path) -> None:
    """What is stored in units of its own is brought back, up to rounding and one scale for all.

    Source: nipy/nibabel#143 and dgobbi/vtk-dicom#26 (real values), MRtrix3/mrtrix3#2499 and
    rordenlab/dcm2niix#363 (units by slice), ImagingDataCommons/highdicom#418 and
    pydicom/pydicom#1237 (a slope without a value).
    """
    RIGHT[name](tmp_path / "A/bad")
    (scan,) = found(tmp_path).scans
    voxels, affine = load_image(scan.images["FLAIR"])
    scale = float((voxels * truth(1)).sum() / (truth(1) ** 2).sum())
    assert np.abs(voxels / scale - truth(1)).max() < 2.0
    assert np.linalg.norm(affine[:3, 2]) == pytest.approx(4.0)


def test_padding_is_no_signal(tmp_path: Path) -> None:
    """A frame of -32768 neither darkens the head nor makes a CT of it.

    Source: dgobbi/vtk-dicom#173 and #128, rordenlab/dcm2niix#262.
    """

    def edit(data: FileDataset, _: int) -> None:
        values = plane(data).astype(np.int16)
        values[:3] = -32768
        data.PixelRepresentation, data.PixelPaddingValue = 1, -32768
        pixels(data, values)

    series(tmp_path / "A/bad", 1, edit=edit)
    table = found(tmp_path)
    (scan,) = table.scans
    voxels, _ = load_image(scan.images["FLAIR"])
    assert voxels.min() >= truth(1).min()
    assert np.array_equal(voxels[:, 3:], truth(1)[:, 3:])
    assert "D22" not in told(table)


def cut_off(folder: Path) -> None:
    """Lose the last bytes of a slice."""
    series(folder, 1)
    raw = (folder / "2.dcm").read_bytes()
    (folder / "2.dcm").write_bytes(raw[:-100])


def pointers_of_lfs(folder: Path) -> None:
    """Leave pointers in place of the files."""
    series(folder, 1)
    for path in folder.iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n")


def last_link_of_annex(folder: Path) -> None:
    """Leave a link of git-annex in place of the last slice, whose loss leaves no gap."""
    series(folder, 1)
    (folder / "5.dcm").unlink()
    (folder / "5.dcm").symlink_to("../.git/annex/objects/xx/MD5E-s1--5.dcm")


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "numbers of a palette": (
        lambda f: series(f, 1, edit=fields(PhotometricInterpretation="PALETTE COLOR")),
        "D63",
        "colour",
    ),
    "picture of a screen": (
        lambda f: series(f, 1, edit=fields(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])),
        "D61",
        "screenshot",
    ),
    "ultrasound": (
        lambda f: series(f, 1, edit=fields(Modality="US", SOPClassUID=UltrasoundImageStorage)),
        "D61",
        "another machine",
    ),
    "secondary capture": (
        lambda f: series(f, 1, edit=fields(SOPClassUID=SecondaryCaptureImageStorage)),
        "D61",
        "Secondary Capture",
    ),
    "pixels of 0 mm": (
        lambda f: series(f, 1, edit=fields(PixelSpacing=[0, 0])),
        "D32",
        "no distance of pixels",
    ),
    "cut off": (cut_off, "D07", "412 of 512 bytes"),
    "pointers": (pointers_of_lfs, "D58", "git lfs pull"),
    "one slice not fetched": (last_link_of_annex, "D58", "git annex get"),
    "two stacks in one file": (lambda f: _two_stacks(f), "D32", "gap of 54.00 mm"),
}


def _two_stacks(folder: Path) -> None:
    enhanced(folder / "a.dcm", [1])
    data = pydicom.dcmread(folder / "a.dcm")
    for group in data.PerFrameFunctionalGroupsSequence[3:]:
        group.PlanePositionSequence[0].ImagePositionPatient[2] += 50
        group.FrameContentSequence[0].StackID = "2"
    pydicom.dcmwrite(folder / "a.dcm", data)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_gray_series_is_named(name: str, tmp_path: Path) -> None:
    """It is left out for its own reason, and what to do stands there.

    Source: pydicom/pydicom#205 (palette), rordenlab/dcm2niix#440 (screens), datalad/datalad#3513
    (files that were not fetched).
    """
    build, code, word = REFUSED[name]
    build(tmp_path / "A/bad")
    series(tmp_path / "A/good", 9)
    table = found(tmp_path)
    assert [scan.subject for scan in table.scans] == ["good"]
    assert told(table)[code] is True
    assert word in " ".join(f.reason for f in table.findings if f.code == code)
    assert table.n_found == {"A": 2}


def persons(root: Path, born: list[str]) -> ScanTable:
    """Write a folder for each day of birth, each with a number of its own."""
    for place, day in enumerate(born):
        edit = fields(PatientID=f"number {place}", PatientBirthDate=day, PatientName="Doe^Jane")
        series(root / f"A/n{place}", place + 1, edit=edit)
    return found(root)


def test_one_person_under_two_numbers_is_told(tmp_path: Path) -> None:
    """A patient who came twice under two numbers stays two, with a word and without her name.

    Source: UCSD-AI4H/COVID-CT#11 (patients that sit on both sides of a split).
    """
    table = persons(tmp_path, ["19500101", "19500101", "19510101", "19520101"])
    (reason,) = {f.reason for f in table.findings if f.code == "D60"}
    assert "n0, n1 have one name" in reason
    assert "Doe" not in reason
    assert "1950" not in reason
    assert len(table.scans) == 4


def test_a_day_of_birth_that_all_share_names_nobody(tmp_path: Path) -> None:
    """An anonymiser writes one name and one day for all (datalad/example-dicom-structural#1)."""
    table = persons(tmp_path, ["19000101"] * 4)
    assert not [finding for finding in table.findings if finding.code == "D60"]


def test_an_export_beside_its_copy_is_read_once(tmp_path: Path) -> None:
    """Files of macOS and thumbnails beside a series are no slices (rordenlab/dcm2niix#168)."""
    series(tmp_path / "A/bad", 1)
    for index in range(3):
        (tmp_path / f"A/bad/._{index}.dcm").write_bytes(b"\0\5\x16\7" + bytes(200))
    shutil.copy(tmp_path / "A/bad/0.dcm", tmp_path / "A/bad/0 copy.dcm")
    (scan,) = found(tmp_path).scans
    assert np.array_equal(load_image(scan.images["FLAIR"])[0], truth(1))

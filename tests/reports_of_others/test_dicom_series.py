"""DICOM trees that others reported as read wrongly: each gives the right voxels or its code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813  # the name that all of its users write
from pydicom.dataset import FileDataset
from pydicom.uid import (
    HTJ2KLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from fedmri.data.checks.check import examine
from fedmri.data.dicom.frames import kept_locale
from fedmri.data.files.volume import load_image
from fedmri.data.read import read
from fedmri.data.scans import ScanTable
from fedmri.data.settings import CheckConfig, SourceConfig
from fedmri.tasks.kinds.regression import Regression
from tests.reports_of_others.dicom_files import (
    N_SLICES,
    Edit,
    enhanced,
    fields,
    keep,
    pixels,
    plane,
    series,
    truth,
)

AGE = Regression("age")
FLAIR = ("FLAIR",)
Build = Callable[[Path], object]


@dataclass(frozen=True)
class Report:
    """A tree that went wrong elsewhere.

    Attributes:
        name: What is special.
        source: Repository and number of a thread about it; ``""`` for a brother of the others.
        build: Writes the folder of a subject.
    """

    name: str
    source: str
    build: Build

    def __str__(self) -> str:
        return self.name


def found(root: Path, **settings: object) -> ScanTable:
    """Read and examine a tree of sites; a table gives every subject an age."""
    names = sorted({path.name for path in root.glob("*/*") if path.is_dir()})
    rows = "".join(f"{name}\t40\n" for name in names)
    (root / "participants.tsv").write_text(f"participant_id\tage\n{rows}")
    source = SourceConfig(**{"path": str(root), "layout": "dicom", "modalities": FLAIR} | settings)  # type: ignore[arg-type]  # settings of a case
    return examine(read(source), AGE, CheckConfig(), source.modalities)


def told(table: ScanTable, subject: str = "bad") -> dict[str, bool]:
    """Return the codes about a subject, and whether each leaves it out."""
    return {f.code: f.is_excluded for f in table.findings if f.subject in (subject, "")}


def no_preamble(folder: Path) -> None:
    """Write files that begin with their first field, as some consoles do."""
    series(folder, 1)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])


def first_slope_is_whole(data: FileDataset, index: int) -> None:
    """Store the first slice in units, the others in tenths."""
    data.RescaleSlope, data.RescaleIntercept = (1 if index == 0 else "0.1"), 0
    pixels(data, np.round(plane(data) * (1 if index == 0 else 10)).astype(np.uint16))


def slope_of_each(data: FileDataset, index: int) -> None:
    """Store each slice in units of its own, above a base of its own."""
    slope, base = 0.02 * (index + 1), 3 * index
    data.RescaleSlope, data.RescaleIntercept = f"{slope:g}", base
    pixels(data, np.round((plane(data) - base) / slope).astype(np.uint16))


def signed(data: FileDataset, _: int) -> None:
    """Store numbers below zero that the intercept lifts."""
    data.PixelRepresentation, data.RescaleSlope, data.RescaleIntercept = 1, 1, 600
    pixels(data, (plane(data) - 600).astype(np.int16))


def white_is_low(data: FileDataset, _: int) -> None:
    """Store the image as a film shows it."""
    data.PhotometricInterpretation = "MONOCHROME1"
    pixels(data, (900 - plane(data)).astype(np.uint16))


def overlay_in_spare_bits(data: FileDataset, _: int) -> None:
    """Draw a frame into bit 12, as old archives do."""
    data.BitsStored, data.HighBit = 12, 11
    marked = plane(data).astype(np.uint16)
    marked[0] |= 1 << 12
    data.add_new(0x60000102, "US", 12)
    pixels(data, marked)


def rle(data: FileDataset, _: int) -> None:
    """Compress by run lengths."""
    data.compress(RLELossless)


def packed(folder: Path, how: str, edit: Edit = keep) -> None:
    """Compress each slice by the library that hospitals' converters use."""
    series(folder, 1, edit=edit)
    for path in folder.iterdir():
        with kept_locale():
            image = sitk.ReadImage(str(path))
        writer: Any = sitk.ImageFileWriter()  # type: ignore[no-untyped-call]
        writer.KeepOriginalImageUIDOn()
        writer.SetUseCompression(True)
        writer.SetCompressor(how)
        writer.SetFileName(str(path))
        header = pydicom.dcmread(path)
        if header.PhotometricInterpretation == "MONOCHROME1":
            image = 65535 - image  # which turns back what reading turned round
        with kept_locale():
            writer.Execute(image)
        written = pydicom.dcmread(path)
        assert written.file_meta.TransferSyntaxUID.is_compressed
        header.PixelData, header["PixelData"].VR = written.PixelData, "OB"
        header.file_meta.TransferSyntaxUID = written.file_meta.TransferSyntaxUID
        pydicom.dcmwrite(path, header)


def copied_files(folder: Path) -> None:
    """Export some slices twice."""
    series(folder, 1)
    for index in (1, 4):
        shutil.copy(folder / f"{index}.dcm", folder / f"{index} (copy).dcm")


def magnitude_and_phase(folder: Path) -> None:
    """Store both halves of complex numbers under one series number."""
    for kind, seed in (("M", 1), ("P", 2)):
        edit = fields(SeriesInstanceUID="1.2.3", ImageType=["ORIGINAL", "PRIMARY", kind])
        series(folder, seed, edit=edit, name=f"{kind}{{index}}.dcm")


def disc(folder: Path) -> None:
    """Keep screenshots, outlines and an index beside the images."""
    series(folder, 1)
    for number, kind in enumerate((SecondaryCaptureImageStorage, SegmentationStorage)):
        data = pydicom.dcmread(folder / "0.dcm")
        data.SOPClassUID, data.SOPInstanceUID = kind, generate_uid()
        data.SeriesInstanceUID = generate_uid()
        pydicom.dcmwrite(folder / f"other{number}", data)
    (folder / "DICOMDIR").write_bytes((folder / "0.dcm").read_bytes())


def shuffled() -> list[tuple[int, int]]:
    """Return every second slice, then the others from above."""
    return [(0, k) for k in (0, 2, 4, 5, 3, 1)]


RIGHT = [
    Report("named by UID", "ivmartel/dwv#949", lambda f: series(f, 1, name="{uid}")),
    Report("MR.001", "openmrslab/suspect#129", lambda f: series(f, 1, name="MR.00{index}")),
    Report("no preamble", "pydicom/pydicom#150", no_preamble),
    Report(
        "first slope whole, others not",
        "SimpleITK/SimpleITK#1636",
        lambda f: series(f, 1, edit=first_slope_is_whole),
    ),
    Report(
        "a slope for each slice",
        "SimpleITK/SimpleITK#1640",
        lambda f: series(f, 1, edit=slope_of_each),
    ),
    Report("signed pixels", "imagej/ImageJ#90", lambda f: series(f, 1, edit=signed)),
    Report("run lengths", "pydicom/pydicom#18", lambda f: series(f, 1, edit=rle)),
    Report("JPEG 2000", "pydicom/pydicom#1282", lambda f: packed(f, "JPEG2000")),
    Report("JPEG-LS without plugins", "pydicom/pydicom#1282", lambda f: packed(f, "JPEGLS")),
    Report("film, JPEG-LS", "pydicom/pydicom#783", lambda f: packed(f, "JPEGLS", white_is_low)),
    Report(
        "overlay in spare bits",
        "",
        lambda f: series(f, 1, edit=overlay_in_spare_bits),
    ),
    Report("files there twice", "rordenlab/dcm2niix#168", copied_files),
    Report("magnitude and phase", "rordenlab/dcm2niix#300", magnitude_and_phase),
    Report("enhanced", "icometrix/dicom2nifti#110", lambda f: enhanced(f / "a", [1])),
    Report(
        "enhanced, frames shuffled",
        "horosproject/horos#543",
        lambda f: enhanced(f / "a.dcm", [1], order=shuffled()),
    ),
    Report(
        "enhanced, a slope for each frame",
        "SimpleITK/SimpleITK#1640",
        lambda f: enhanced(f / "a.dcm", [1], scales=[1, 0.5, 0.25, 0.1, 0.2, 0.05]),
    ),
    Report(
        "enhanced that still says mosaic",
        "rordenlab/dcm2niix#553",
        lambda f: enhanced(f / "a.dcm", [1], marks=("ORIGINAL", "PRIMARY", "M", "MOSAIC")),
    ),
    Report("screenshots and outlines beside", "Sikerdebaard/dcmrtstruct2nii#5", disc),
    Report(
        "film", "Project-MONAI/monai-deploy-app-sdk#282", lambda f: series(f, 1, edit=white_is_low)
    ),
]


@pytest.mark.parametrize("report", RIGHT, ids=str)
def test_the_volume_is_the_one_that_was_scanned(report: Report, tmp_path: Path) -> None:
    """Every voxel is what the scanner measured, up to the rounding of what was stored."""
    report.build(tmp_path / "A/bad")
    table = found(tmp_path)
    (scan,) = table.scans
    voxels, _ = load_image(scan.images["FLAIR"])
    expected = truth(1) - truth(1).min() if "film" in report.name else truth(1)
    got = voxels - voxels.min() if "film" in report.name else voxels
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 0.5
    assert table.n_found == {"A": 1}


def mosaic(folder: Path) -> None:
    """Put all slices into one picture, as for functional images."""
    series(folder, 1, edit=fields(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]))
    for index in range(1, N_SLICES):
        (folder / f"{index}.dcm").unlink()


def time_points(folder: Path) -> None:
    """Scan the same place three times under one series number."""
    for time in range(3):
        edit = fields(SeriesInstanceUID="1.2.3", TemporalPositionIdentifier=time)
        series(folder, time + 1, edit=edit, name=f"{time}-{{index}}.dcm", says="t2_flair")


def scout_in_the_series(folder: Path) -> None:
    """Begin the series with a slice of another direction."""
    edit = fields(SeriesInstanceUID="1.2.3")
    series(folder, 1, edit=edit)
    data = pydicom.dcmread(folder / "0.dcm")
    data.ImageOrientationPatient, data.SOPInstanceUID = [0, 1, 0, 0, 0, -1], generate_uid()
    pydicom.dcmwrite(folder / "scout.dcm", data)


def no_decoder(folder: Path) -> None:
    """Say a compression that nothing here can undo."""
    series(folder, 1)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.PixelData = pydicom.encaps.encapsulate([data.PixelData])
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
        data.file_meta.TransferSyntaxUID = HTJ2KLossless
        pydicom.dcmwrite(path, data)


def frames_without_places(folder: Path) -> None:
    """Store many frames in a file of the class for one."""
    series(folder, 1)
    stacked = np.stack([plane(pydicom.dcmread(folder / f"{i}.dcm")) for i in range(N_SLICES)])
    data = pydicom.dcmread(folder / "0.dcm")
    shutil.rmtree(folder)
    folder.mkdir()
    data.NumberOfFrames = N_SLICES
    pixels(data, stacked.astype(np.uint16))
    pydicom.dcmwrite(folder / "all.dcm", data)


def only_screenshots(folder: Path) -> None:
    """Keep nothing but pictures of a screen."""
    series(folder, 1, edit=fields(SOPClassUID=SecondaryCaptureImageStorage))


def only_notes(folder: Path) -> None:
    """Keep nothing but a note."""
    folder.mkdir(parents=True)
    (folder / "lost.txt").write_text("sent on a CD")


def colours(data: FileDataset, _: int) -> None:
    """Store three values a pixel."""
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7
    data.PixelData = bytes(range(256)) * 3


def one_missing(folder: Path) -> None:
    """Lose a slice."""
    series(folder, 1)
    (folder / "2.dcm").unlink()


REFUSED = [
    (Report("mosaic", "rordenlab/dcm2niix#482", mosaic), "D63"),
    (Report("time points", "SimpleITK/SimpleITK#879", time_points), "D63"),
    (
        Report(
            "two echoes in one file",
            "rordenlab/dcm2niix#692",
            lambda f: enhanced(f / "a.dcm", [1, 2]),
        ),
        "D63",
    ),
    (Report("scout in the series", "RSIP-Vision/medio#23", scout_in_the_series), "D32"),
    (Report("no decoder", "pydicom/pydicom#664", no_decoder), "D66"),
    (Report("frames without places", "Slicer/Slicer#7496", frames_without_places), "D63"),
    (Report("only screenshots", "rordenlab/dcm2niix#440", only_screenshots), "D61"),
    (Report("only a note", "rordenlab/dcm2niix#440", only_notes), "D61"),
    (Report("nothing", "rordenlab/dcm2niix#440", lambda f: f.mkdir(parents=True)), "D61"),
    (Report("colours", "", lambda f: series(f, 1, edit=colours)), "D63"),
    (Report("slice missing", "DIAGNijmegen/rse-panimg#7", one_missing), "D32"),
    (
        Report(
            "no pixel distance",
            "Slicer/Slicer#6773",
            lambda f: series(f, 1, edit=lambda d, _: delattr(d, "PixelSpacing")),
        ),
        "D32",
    ),
]


@pytest.mark.parametrize(("report", "code"), REFUSED, ids=str)
def test_what_cannot_be_read_is_named_and_counted(
    report: Report, code: str, tmp_path: Path
) -> None:
    """The subject is left out for its reason, still counts as found, and harms no other."""
    series(tmp_path / "A/good", 7)
    report.build(tmp_path / "A/bad")
    table = found(tmp_path)
    assert told(table)[code] is True
    assert [scan.subject for scan in table.scans] == ["good"]
    assert table.n_found == {"A": 2}

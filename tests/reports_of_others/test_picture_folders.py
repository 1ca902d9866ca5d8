"""Folders of pictures as others had them: other formats, masks among images, nobody's images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmri.data.read import read
from fedmri.data.scans import ScanTable
from fedmri.data.settings import SourceConfig
from tests.data.worlds import image_rows, image_world, picture, save_picture, write_table
from tests.reports_of_others.test_dicom_pictures import examined

BAD = "B/one/xbad.png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return two sites with four good pictures and one that is to be spoiled."""
    image_world(tmp_path)
    return tmp_path


def told(table: ScanTable, site: str = "B") -> dict[str, bool]:
    """Return the codes about a site, and whether each leaves something out."""
    return {f.code: f.is_excluded for f in table.findings if f.site in (site, "")}


def stored(ending: str, kind: str) -> Callable[[Path], object]:
    """Return what stores the picture in a format, under an ending."""

    def spoil(root: Path) -> None:
        (root / BAD).unlink()
        Image.fromarray(picture(4)).save((root / BAD).with_suffix(ending), kind)

    return spoil


def numbers(root: Path) -> None:
    """Store the picture as an array of NumPy."""
    (root / BAD).unlink()
    np.save(root / "B/one/xbad.npy", picture(4))


FORMATS: dict[str, Callable[[Path], object]] = {
    "bmp": stored(".bmp", "BMP"),
    "gif": stored(".GIF", "GIF"),
    "webp": stored(".webp", "WEBP"),
    "JPEG 2000": stored(".jp2", "JPEG2000"),
    "pgm": stored(".pgm", "PPM"),
    "numbers": numbers,
}


@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_a_format_that_is_not_read_is_counted(name: str, has_table: bool, root: Path) -> None:
    """It is left out by name, and the site's images count as found.

    Source: MNeMoNiCuZ/joy-caption-batch#3, modelscope/DiffSynth-Studio#1466.
    """
    FORMATS[name](root)
    if not has_table:
        (root / "B/participants.tsv").unlink()
    table = examined(root)
    assert told(table)["D73"] is True
    assert table.n_found == {"A": 2, "B": 3}
    assert len(table.scans) == 4


def test_a_site_of_another_format_is_lost_by_name(root: Path) -> None:
    """It does not vanish with the words that it holds no image."""
    (root / "B/participants.tsv").unlink()
    for path in (root / "B").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".gif"))
        path.unlink()
    table = examined(root)
    assert table.n_found == {"A": 2, "B": 3}
    assert told(table) == {"D73": True}


OTHERWISE = {
    "WebP": stored(".jpg", "WEBP"),
    "GIF": stored(".png", "GIF"),
    "bitmap": stored(".png", "BMP"),
    "JPEG 2000": stored(".tif", "JPEG2000"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_format_under_another_name_is_named(name: str, root: Path) -> None:
    """A copy would be the same file again: what helps is to convert it.

    Source: CertifaiAI/classifai#394.
    """
    OTHERWISE[name](root)
    (root / "B/participants.tsv").unlink()
    table = examined(root)
    (reason,) = {f.reason for f in table.findings if f.code == "D73"}
    assert name in reason
    assert str(root) not in reason


@pytest.mark.parametrize("ending", [".jfif", ".JPE", ".PNG", ".TIF"])
def test_every_ending_of_a_format_is_read(ending: str, root: Path) -> None:
    """Programs of Windows save JPEG as .jfif."""
    kind = {".jfif": "JPEG", ".JPE": "JPEG", ".PNG": "PNG", ".TIF": "TIFF"}[ending]
    stored(ending, kind)(root)
    write_table(root / "B", image_rows(["one/g2.png", "two/g3.png", f"one/xbad{ending}"]))
    assert len(examined(root).scans) == 5


@pytest.mark.parametrize("name", ["g2_mask", "g2_Mask_1", "g2-seg", "g2_label"])
def test_masks_beside_images_are_no_patients(name: str, root: Path) -> None:
    """A folder with images and their masks trains on the images alone.

    Source: FengheTan9/CMUNeXt#11 (several masks for each image, in the image's folder).
    """
    save_picture(root / f"B/one/{name}.png", (picture(7) > 130).astype(np.uint8) * 255)
    (root / "B/participants.tsv").unlink()
    table = examined(root)
    assert len(table.scans) == 5
    assert told(table)["D29"] is False


def test_a_name_like_a_mask_of_nothing_is_an_image(root: Path) -> None:
    """``roi`` without an image of that stem may be what a hospital calls its pictures."""
    save_picture(root / "B/one/7_roi.png", picture(7))
    (root / "B/participants.tsv").unlink()
    assert len(examined(root).scans) == 6


@pytest.mark.parametrize("word", ["unknown", "n/a", "-", "none", "?"])
def test_nobody_is_no_patient(word: str, root: Path) -> None:
    """Images of people who are not known are no visits of one person called "unknown"."""
    rows = image_rows(["one/g2.png", "two/g3.png", "one/xbad.png"])
    write_table(root / "B", [rows[0], {**rows[1], "patient": word}, {**rows[2], "patient": word}])
    table = examined(root)
    assert told(table)["D28"] is True
    assert {scan.subject for scan in table.scans if scan.site == "B"} == {"p-g2"}


def test_nobody_is_at_no_two_sites(root: Path) -> None:
    """A key that says "unknown" joins no patients of two hospitals (spine-generic#102)."""
    for site, names in {
        "A": ["one/g0.png", "two/g1.png"],
        "B": ["one/g2.png", "two/g3.png"],
    }.items():
        write_table(root / site, [{**row, "key": "unknown"} for row in image_rows(names)])
    (root / BAD).unlink()
    table = read(SourceConfig(path=str(root), key_column="key"))
    assert {f.code for f in table.findings if f.is_excluded} == {"D26"}
    assert {scan.subject for scan in table.scans} == set()


@pytest.mark.parametrize("names", [("Training", "Testing"), ("train", "val", "test")])
def test_sides_of_a_split_are_not_taken_for_hospitals_in_silence(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    """Public sets come divided; their sides would train as a federation."""
    for place, name in enumerate(names):
        for seed, kind in enumerate(("one", "two")):
            save_picture(tmp_path / name / kind / f"{place}.png", picture(2 * place + seed))
    table = examined(tmp_path)
    assert told(table, names[0])["D06"] is False


def test_a_picture_that_was_not_fetched_is_counted(root: Path) -> None:
    """A link into the annex is an image of its site, with the command (datalad/datalad#3513)."""
    (root / BAD).unlink()
    (root / BAD).symlink_to("../../.git/annex/objects/xx/MD5E-s9--a.png")
    table = examined(root)
    assert told(table) == {"D58": True}
    assert table.n_found == {"A": 2, "B": 3}


def test_a_table_of_another_name_is_told(root: Path) -> None:
    """Each image is its own patient because a table is called .csv."""
    (root / "B/participants.tsv").rename(root / "B/participants.csv")
    (reason,) = {f.reason for f in examined(root).findings if f.code == "D26"}
    assert "Save participants.csv as participants.tsv" in reason

"""Pictures that others reported as read wrongly, and patients that hospitals number alike."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from fedmri.data.checks.check import check, examine
from fedmri.data.checks.manifest import used_by_site
from fedmri.data.files.volume import load_image, load_label
from fedmri.data.read import read
from fedmri.data.scans import ScanTable
from fedmri.data.settings import CheckConfig, DataConfig, PrepareConfig, SourceConfig
from fedmri.errors import DataError
from fedmri.plan import Plan
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.sites import SiteSource, StudySites, prepare_sites
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from tests.data.worlds import image_world, picture, save_picture, write_table

KIND = Classification("class", ("one", "two"))
ONE, TWO = Segmentation("mask", ("a",)), Segmentation("mask", ("a", "b"))
ORIENTATION = 0x0112
SHOWN = picture(1)[:32, :]
"""What a viewer shows, 32 rows and 40 columns."""


@dataclass(frozen=True)
class Stored:
    """A way in which a picture is stored.

    Attributes:
        name: What is special.
        source: Repository and number of a thread about it; ``""`` for a brother of the others.
        suffix: Of the file.
        store: Writes it.
        tolerance: Gray values by which compression may differ.
    """

    name: str
    source: str
    suffix: str
    store: Callable[[Path], object]
    tolerance: float = 0.0

    def __str__(self) -> str:
        return self.name


def turned(orientation: int) -> NDArray[np.uint8]:
    """Return what is stored where a note of this number makes a viewer show ``SHOWN``.

    The numbers are those of the EXIF standard: 2 to 4 flip, 5 to 8 exchange rows and columns.
    """
    back = {
        1: SHOWN,
        2: SHOWN[:, ::-1],
        3: SHOWN[::-1, ::-1],
        4: SHOWN[::-1],
        5: SHOWN.T,
        6: np.rot90(SHOWN, 1),
        7: SHOWN[::-1, ::-1].T,
        8: np.rot90(SHOWN, -1),
    }
    return np.ascontiguousarray(back[orientation])


def noted(orientation: int) -> Callable[[Path], object]:
    """Return a writer that turns the picture and notes it."""

    def store(path: Path) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.fromarray(turned(orientation)).save(path, exif=exif, quality=100)

    return store


def hidden(path: Path) -> None:
    """Keep other values under transparent pixels, as drawing programs do."""
    alpha = np.where(SHOWN.mean() < SHOWN, 255, 0).astype(np.uint8)
    gray = np.where(alpha > 0, SHOWN, 200).astype(np.uint8)
    Image.fromarray(np.stack([gray, gray, gray, alpha], axis=-1), "RGBA").save(path)


def white_is_zero(path: Path) -> None:
    """Store sixteen bits of which 0 is white."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[262] = 0
    Image.fromarray((65535 - 256 * SHOWN.astype(np.int32)).astype(np.uint16)).save(
        path, tiffinfo=info
    )


def in_mode(mode: str) -> Callable[[Path], object]:
    """Return a writer that stores the picture in another mode."""
    return lambda path: Image.fromarray(SHOWN).convert(mode).save(path)


VISIBLE = np.where(SHOWN.mean() < SHOWN, SHOWN, 0)
STORED = [
    *[
        Stored(f"turned {n}, JPEG", "huggingface/datasets#6252", ".jpg", noted(n), 3)
        for n in range(1, 9)
    ],
    Stored("turned 6, PNG", "python-pillow/Pillow#9109", ".png", noted(6)),
    Stored("turned 8, TIFF", "huggingface/diffusers#3465", ".tif", noted(8)),
    Stored(
        "sixteen bits",
        "python-pillow/Pillow#3011",
        ".png",
        lambda p: Image.fromarray(SHOWN.astype(np.uint16) * 256).save(p),
    ),
    Stored(
        "numbers",
        "python-pillow/Pillow#5991",
        ".tif",
        lambda p: Image.fromarray(SHOWN.astype(np.float32) / 7).save(p),
        1e-3,
    ),
    Stored("palette", "python-pillow/Pillow#1979", ".png", in_mode("P")),
    Stored("colours", "python-pillow/Pillow#2574", ".png", in_mode("RGB")),
    Stored("alpha", "python-pillow/Pillow#5489", ".png", in_mode("RGBA")),
    Stored("gray and alpha", "python-pillow/Pillow#154", ".png", in_mode("LA")),
    Stored("printer's colours", "", ".tif", in_mode("CMYK"), 2),
    Stored("values under glass", "python-pillow/Pillow#5489", ".png", hidden),
    Stored("white is zero", "", ".tif", white_is_zero),
]


@pytest.mark.parametrize("stored", STORED, ids=str)
def test_a_picture_is_what_a_viewer_shows(stored: Stored, tmp_path: Path) -> None:
    """Whatever the file's way to say so, up to one gray scale for all pixels."""
    path = tmp_path / f"image{stored.suffix}"
    stored.store(path)
    got, _ = load_image(path)
    expected = VISIBLE if stored.store is hidden else SHOWN
    assert got.shape == expected.shape
    slope, base = np.polyfit(expected.ravel().astype(float), got.ravel(), 1)
    assert slope > 0
    assert np.abs((got - base) / slope - expected).max() <= stored.tolerance + 0.5


def test_numbers_of_a_palette_are_classes(tmp_path: Path) -> None:
    """A mask drawn in colours holds 0, 1 and 2 (Lightning-Universe/lightning-flash#1400)."""
    classes = (np.arange(1200).reshape(30, 40) // 400).astype(np.uint8)
    image = Image.fromarray(classes, "P")
    image.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30])
    image.save(tmp_path / "mask.png")
    assert np.array_equal(load_label(tmp_path / "mask.png", TWO.label_map)[0], classes)


def test_a_mask_is_turned_as_its_picture(tmp_path: Path) -> None:
    """Both are shown upright (facebookresearch/detectron2#1319)."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    mask = (SHOWN.mean() < SHOWN).astype(np.uint8) * 255
    for name, values in (("image.png", SHOWN), ("mask.png", mask)):
        Image.fromarray(np.ascontiguousarray(np.rot90(values))).save(tmp_path / name, exif=exif)
    image, label = (
        load_image(tmp_path / "image.png")[0],
        load_label(tmp_path / "mask.png", ONE.label_map)[0],
    )
    assert np.array_equal(image, SHOWN)
    assert np.array_equal(label, mask // 255)


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_of_several_pages_none_is_picked(kind: str, tmp_path: Path) -> None:
    """A stack or a film is refused, never its first page (jimp-dev/jimp#816)."""
    pages = [Image.fromarray(picture(seed)) for seed in range(3)]
    path = tmp_path / "stack.tif"
    pages[0].save(path, kind, save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"3 images .*\[D08\]"):
        load_image(path)


def test_an_inverted_export_is_said(tmp_path: Path) -> None:
    """A head on white among heads on black is reported (ivmartel/dwv#222)."""
    image_world(tmp_path)
    rows, columns = np.mgrid[-20:20, -20:20]
    head = np.where(np.hypot(rows, columns) < 15, 40 + picture(4) // 2, 0)
    save_picture(tmp_path / "B/one/xbad.png", (255 - head).astype(np.uint8))
    table = examined(tmp_path)
    assert ("D69", "p-xbad", False) in {(f.code, f.subject, f.is_excluded) for f in table.findings}


def examined(root: Path, **settings: object) -> ScanTable:
    """Read and examine a folder of pictures."""
    config = CheckConfig(**settings)  # type: ignore[arg-type]  # settings of a case
    return examine(read(SourceConfig(path=str(root))), KIND, config, ("T1w",))


def hospitals(root: Path, n_subjects: int = 8) -> None:
    """Write three hospitals that each number their patients from 1, two pictures a patient."""
    for place, site in enumerate("ABC"):
        rows = []
        for number in range(1, n_subjects + 1):
            for view in range(2):
                name = f"{('one', 'two')[number % 2]}/{number}-{view}.png"
                save_picture(root / site / name, picture(100 * place + 2 * number + view))
                rows.append({"file": name, "patient": str(number)})
        write_table(root / site, rows)


def prepared(root: Path, partition: PartitionConfig) -> StudySites:
    """Prepare a study of the pictures."""
    source = SourceConfig(path=str(root / "set"))
    data = DataConfig(source=source, prepare=PrepareConfig(dimension="2d"))
    plan = Plan(KIND, data=data, model=Plan(KIND).model)
    place = SiteSource(plan, partition, "", is_rest_external=False, cache=root / "cache")
    return prepare_sites(place, root)


def test_patients_1_to_8_of_three_hospitals_are_24(tmp_path: Path) -> None:
    """No hospital is dropped, whatever the setting of copies (FCP-INDI/C-PAC#412)."""
    hospitals(tmp_path)
    table = read(SourceConfig(path=str(tmp_path)))
    for config in (CheckConfig(), CheckConfig(duplicates="exclude")):
        checked = check(table, KIND, config, ("T1w",))
        assert used_by_site(checked) == dict.fromkeys("ABC", (16, 16))


def test_equal_numbers_are_split_and_counted_by_hospital(tmp_path: Path) -> None:
    """Each hospital has all sides, and their sums are its eight patients."""
    hospitals(tmp_path / "set")
    study = prepared(tmp_path, PartitionConfig())
    sides = {site: [used[s] for s in ("train", "val", "test")] for site, used in study.used.items()}
    assert {site: sum(counts) for site, counts in sides.items()} == dict.fromkeys("ABC", 8)
    assert all(min(counts) >= 1 for counts in sides.values())


@pytest.mark.parametrize("kind", ["iid", "quantity", "dirichlet"])
def test_drawn_sites_keep_patients_of_one_number_apart(kind: str, tmp_path: Path) -> None:
    """Patients 1 of A and of B that come to one site stay two (spinalcordtoolbox#2091)."""
    hospitals(tmp_path / "set")
    study = prepared(tmp_path, PartitionConfig(kind, 2))  # type: ignore[arg-type]  # parametrized
    sides = [sum(used[s] for s in ("train", "val", "test")) for used in study.used.values()]
    assert sum(sides) == 24
    assert sum(used["used"] for used in study.used.values()) == 48


def test_a_site_alone_splits_as_in_the_federation(tmp_path: Path) -> None:
    """What others call their patients moves nobody of a hospital: simulation is deployment."""
    hospitals(tmp_path / "set")
    together = prepared(tmp_path, PartitionConfig()).fingerprints
    shutil.copytree(tmp_path / "set/B", tmp_path / "alone/set/B")
    alone = prepared(tmp_path / "alone", PartitionConfig()).fingerprints
    assert alone["B"] == together["B"]


def test_a_copy_under_the_same_number_is_still_a_copy(tmp_path: Path) -> None:
    """Patient 3 of A and of B with one picture are suspected (spine-generic#102)."""
    hospitals(tmp_path)
    shutil.copy(tmp_path / "A/two/3-0.png", tmp_path / "B/two/3-0.png")
    table = examined(tmp_path, duplicates="exclude")
    gone = Counter((f.code, f.site, f.subject) for f in table.findings if f.is_excluded)
    assert gone == {("D19", "B", "3"): 1}

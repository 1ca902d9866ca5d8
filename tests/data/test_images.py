"""A folder of pictures is read by its folders and, where there is one, its patient table."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmri.data.read import read
from fedmri.data.settings import SourceConfig
from tests.data.worlds import image_rows, image_world, picture, save_picture, write_table


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a good data set of two sites."""
    image_world(tmp_path)
    return tmp_path


def test_sites_classes_and_patients_come_from_folders_and_tables(root: Path) -> None:
    """Each picture is a scan of the patient that its site's table names."""
    table = read(SourceConfig(path=str(root), modalities=("T1c",)))
    told = [(s.site, s.columns["class"], s.subject, s.session) for s in table.scans]
    assert told == [
        ("A", "one", "p-g0", "g0"),
        ("A", "two", "p-g1", "g1"),
        ("B", "one", "p-g2", "g2"),
        ("B", "two", "p-g3", "g3"),
        ("B", "one", "p-xbad", "xbad"),
    ]
    assert table.scans[0].images == {"T1c": root / "A/one/g0.png"}


@pytest.mark.parametrize(("setting", "site"), [("", "B"), ("mine", "mine")])
def test_a_single_site_is_its_folder_or_the_setting(setting: str, site: str, root: Path) -> None:
    """A hospital points at its own folder of classes."""
    table = read(SourceConfig(path=str(root / "B"), site=setting))
    assert ({scan.site for scan in table.scans}, len(table.scans)) == ({site}, 3)


def test_slices_of_one_patient_share_a_subject(root: Path) -> None:
    """Two files of one name in two classes are two scans of one subject."""
    save_picture(root / "A/two/g0.png", picture(8))
    rows = image_rows(["one/g0.png", "two/g1.png", "two/g0.png"])
    write_table(root / "A", rows)
    scans = [scan for scan in read(SourceConfig(path=str(root))).scans if scan.subject == "p-g0"]
    assert sorted(scan.session for scan in scans) == ["one-g0.png", "two-g0.png"]


def test_without_a_table_every_picture_is_a_subject_of_its_site(root: Path) -> None:
    """That is said once a site, for it means that no patient is kept together."""
    for site in "AB":
        (root / site / "participants.tsv").unlink()
    table = read(SourceConfig(path=str(root)))
    assert [scan.subject for scan in table.scans[:2]] == ["A-one-g0", "A-two-g1"]
    assert [(f.code, f.site, f.is_excluded) for f in table.findings] == [
        ("D26", "A", False),
        ("D26", "B", False),
    ]


def test_a_table_in_the_root_serves_all_sites(root: Path) -> None:
    """Its files are named from the root, accents in whichever Unicode form."""
    save_picture(root / "B/one/cafe\u0301.png", picture(9))
    files = ["A/one/g0.png", "A/two/g1.png", "B/one/g2.png", "B/one/caf\u00e9.png"]
    for site in "AB":
        (root / site / "participants.tsv").unlink()
    write_table(root, image_rows(files))
    table = read(SourceConfig(path=str(root)))
    assert len(table.scans) == len(files)
    assert {f.code for f in table.findings} == {"D28"}


def test_one_stray_picture_does_not_change_the_layout(root: Path) -> None:
    """A logo in a site's folder is passed over; its patients stay those of their sites."""
    save_picture(root / "A/logo.png", picture(9))
    table = read(SourceConfig(path=str(root)))
    assert table.n_found == {"A": 2, "B": 3}
    assert [f.code for f in table.findings] == ["D29"]

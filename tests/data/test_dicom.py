"""A DICOM tree is read into volumes, and nothing about a person comes with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fedmri.data.checks.check import examine
from fedmri.data.checks.manifest import write_manifest
from fedmri.data.files.volume import load_image
from fedmri.data.read import read
from fedmri.data.scans import ScanTable
from fedmri.data.settings import CheckConfig, SourceConfig
from fedmri.tasks.kinds.regression import Regression
from tests.data.worlds import add_series, dicom_world, volume

PRIVATE = ("CANARY", "19010203", "19040506")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a good tree of one site and five subjects."""
    dicom_world(tmp_path / "tree")
    return tmp_path / "tree"


def test_a_series_is_the_volume_it_was_made_of(root: Path) -> None:
    """Slices are sorted by position, whatever their names and numbers say."""
    folder = root / "A/g0"
    for name, other in (("0.dcm", "z.dcm"), ("5.dcm", "0.dcm")):
        (folder / name).rename(folder / other)
    voxels, affine = load_image(folder)
    assert np.array_equal(voxels, volume(0)[:, :, :6].transpose(1, 0, 2))  # rows are y
    spacing_x, spacing_y, spacing_z = 1.25, 1.5, 4.0
    ras = np.diag([-spacing_x, -spacing_y, spacing_z, 1.0])  # DICOM counts to left and back
    ras[:3, 3] = -10, -20, 30
    assert np.allclose(affine, ras)


def test_no_field_of_a_person_survives(root: Path, tmp_path: Path) -> None:
    """A name, a date, a number or a text of the header is nowhere in table and manifest."""
    source = SourceConfig(path=str(root))
    target = Regression("age")
    table = examine(read(source), target, CheckConfig(), source.modalities)
    write_manifest(tmp_path / "manifest.tsv", table)
    told = repr(table) + (tmp_path / "manifest.tsv").read_text()
    assert [word for word in PRIVATE if word in told] == []


def test_a_damaged_header_is_not_quoted(root: Path) -> None:
    """The library's message holds the bytes of the patient number; the finding does not."""
    path = root / "A/g0/2.dcm"
    raw = path.read_bytes()
    damaged = raw.replace(b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00UL")
    assert damaged != raw
    path.write_bytes(damaged)
    (finding,) = read(SourceConfig(path=str(root))).findings
    assert (finding.code, finding.subject) == ("D07", "g0")
    assert "CANARY" not in finding.reason


def test_technical_fields_become_columns(root: Path) -> None:
    """Scanner, field strength and sequence are kept, to divide sites by them."""
    columns = read(SourceConfig(path=str(root))).scans[0].columns
    kept = {name: columns[name] for name in columns if name[0].isupper()}
    assert kept == {
        "Modality": "MR",
        "Manufacturer": "ACME",
        "ManufacturerModelName": "Field 3",
        "MagneticFieldStrength": "3.0",
        "ScanningSequence": "SE/IR",
        "RepetitionTime": "2000",
        "EchoTime": "30",
        "FlipAngle": "90",
        "SliceThickness": "4",
        "PixelSpacing": "1.5/1.25",
    }
    assert columns["age"] == "40"  # from participants.tsv beside the tree


def table_of(root: Path, site: str) -> ScanTable:
    """Read a tree of one site."""
    return read(SourceConfig(path=str(root), site=site))


def test_series_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    """Two series of a subject are two scans, each loaded without the other."""
    add_series(tmp_path / "p1/first", 1)
    add_series(tmp_path / "other", 2)
    for path in (tmp_path / "other").iterdir():
        path.rename(tmp_path / "p1/first" / f"other-{path.name}")
    (tmp_path / "other").rmdir()
    scans = table_of(tmp_path, "A").scans
    assert [scan.key for scan in scans] == ["p1_first-series1", "p1_first-series2"]
    shapes = [load_image(scan.images["T1w"])[0].shape for scan in scans]
    assert shapes == [(16, 16, 6), (16, 16, 6)]


def test_a_subject_without_a_folder_is_a_keyed_hash(tmp_path: Path) -> None:
    """The patient number groups the files and cannot be read back without the key."""
    add_series(tmp_path, 1)
    (subject,) = {scan.subject for scan in table_of(tmp_path, "A").scans}
    other = SourceConfig(path=str(tmp_path), site="A", patient_key="another secret")
    assert len(subject) == 16
    assert "CANARY" not in subject
    assert read(other).scans[0].subject != subject


def test_files_without_a_suffix_are_known_by_their_content(root: Path) -> None:
    """Scanners export names such as IM0001; a note beside them is none of them."""
    for path in list((root / "A/g0").iterdir()):
        path.rename(path.with_suffix(""))
    (root / "A/g0/README").write_text("exported by hand")
    shutil.rmtree(root / "A/g1")
    table = read(SourceConfig(path=str(root)))
    assert [scan.subject for scan in table.scans] == ["g0", "g2", "g3", "xbad"]

"""A BIDS data set is read by the names of its files and its subject table."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from fedmri.data.bids.data_set import modalities_in
from fedmri.data.read import read
from fedmri.data.settings import SourceConfig
from fedmri.errors import DataError
from tests.data.worlds import (
    add_subject,
    bids_rows,
    bids_world,
    mask,
    mask_path,
    save,
    scan_path,
    volume,
    write_table,
)

DATA = os.environ.get("FEDMRI_TEST_DATA", "")
real_data = pytest.mark.skipif(not DATA, reason="FEDMRI_TEST_DATA is not set")
LGG_MODALITIES = ("FLAIR", "T1w", "ce-gadolinium_T1w")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a good data set of five subjects."""
    bids_world(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "wanted", "is_taken"),
    [
        ("T1w", "T1w", True),
        ("acq-fast_run-2_T1w", "T1w", True),
        ("rec-norm_T1w", "T1w", True),
        ("ce-gadolinium_T1w", "T1w", False),
        ("ce-gadolinium_T1w", "ce-gadolinium_T1w", True),
        ("ce-gadolinium_run-1_T1w", "ce-gadolinium_T1w", True),
        ("T1w", "ce-gadolinium_T1w", False),
        ("acq-fast_T1w", "acq-fast_T1w", True),
        ("acq-slow_T1w", "acq-fast_T1w", False),
        ("space-MNI_T1w", "T1w", False),
        ("T2w", "T1w", False),
        ("xT1w", "T1w", False),
    ],
)
def test_a_modality_is_its_suffix_and_exactly_its_entities(
    name: str, wanted: str, is_taken: bool, tmp_path: Path
) -> None:
    """An image after contrast agent is never taken for one before; runs and acquisitions may be."""
    write_table(tmp_path, bids_rows(["g0", "other"]))
    save(scan_path(tmp_path, "g0", name), volume(0))
    for modality in ("T1w", "ce-gadolinium_T1w", "acq-fast_T1w"):
        save(scan_path(tmp_path, "other", modality), volume(1))
    table = read(SourceConfig(path=str(tmp_path), modalities=(wanted,)))
    assert ("g0" in {scan.subject for scan in table.scans}) == is_taken


def test_an_ending_in_capitals_is_the_same_ending(root: Path) -> None:
    """Exports from Windows are called so."""
    path = scan_path(root, "g0")
    path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
    table = read(SourceConfig(path=str(root)))
    assert "g0" in {scan.subject for scan in table.scans}
    assert "T1w" in modalities_in(root)


def test_of_several_runs_the_first_is_taken_and_reported(root: Path) -> None:
    """Run 2 comes before run 10, and the choice is no secret."""
    scan_path(root, "g0").unlink()
    for run in (10, 2):
        save(scan_path(root, "g0", f"run-{run}_T1w"), volume(run))
    table = read(SourceConfig(path=str(root)))
    assert table.scans[0].images["T1w"].name == "sub-g0_run-2_T1w.nii.gz"
    assert [(f.code, f.subject) for f in table.findings] == [("D25", "g0")]


@pytest.mark.parametrize(
    ("missing", "used", "told"), [("zero", 5, {}), ("skip", 1, {"D24": 4})], ids=["zero", "skip"]
)
def test_a_missing_modality_is_kept_or_skipped(
    missing: str, used: int, told: dict[str, int], root: Path
) -> None:
    """One of five subjects has a FLAIR: all stay for a channel of zeros, or four leave by name."""
    save(scan_path(root, "g1", "FLAIR"), volume(9))
    config = SourceConfig(path=str(root), modalities=("T1w", "FLAIR"), missing=missing)  # type: ignore[arg-type]
    table = read(config)
    assert (len(table.scans), table.n_found) == (used, {"A": 5})
    assert Counter(f.code for f in table.findings) == told


def test_sessions_are_scans_of_one_subject(root: Path) -> None:
    """Two visits are two scans, each with its own mask."""
    for session, seed in (("one", 7), ("two", 8)):
        name = f"sub-v_ses-{session}"
        save(root / "sub-v" / f"ses-{session}" / "anat" / f"{name}_T1w.nii.gz", volume(seed))
        place = root / "derivatives" / "manual" / "sub-v" / f"ses-{session}" / "anat"
        save(place / f"{name}_mask.nii.gz", mask(seed))
    write_table(root, bids_rows(["g0", "g1", "g2", "g3", "xbad", "v"]))
    scans = [scan for scan in read(SourceConfig(path=str(root))).scans if scan.subject == "v"]
    assert [scan.key for scan in scans] == ["v_one", "v_two"]
    assert [scan.labels["mask"].name for scan in scans] == [
        "sub-v_ses-one_mask.nii.gz",
        "sub-v_ses-two_mask.nii.gz",
    ]


def test_a_label_name_that_fits_two_files_is_given_to_neither(root: Path) -> None:
    """A mask of the brain is never trained on as a mask of a tumour."""
    save(root / "derivatives/brain/sub-g0/anat/sub-g0_mask.nii.gz", mask(0))
    labels = read(SourceConfig(path=str(root))).scans[0].labels
    assert sorted(labels) == ["brain/mask", "manual/mask"]
    assert labels["manual/mask"] == mask_path(root, "g0")


def test_marks_and_line_ends_of_windows_do_not_matter(root: Path) -> None:
    """A table saved by a spreadsheet reads as the one it was made from."""
    path = root / "participants.tsv"
    before = read(SourceConfig(path=str(root)))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read(SourceConfig(path=str(root))) == before
    path.write_bytes(path.read_text(encoding="utf-8-sig").encode("utf-16"))
    assert read(SourceConfig(path=str(root))) == before


def test_the_site_comes_from_the_column_or_the_setting(root: Path) -> None:
    """The column may have any name; a hospital's own folder needs none."""
    path = root / "participants.tsv"
    path.write_text(path.read_text().replace("site", "hospital"))
    named = read(SourceConfig(path=str(root), site_column="hospital"))
    assert {scan.site for scan in named.scans} == {"A"}
    path.unlink()
    own = read(SourceConfig(path=str(root), site="mine"))
    assert ({scan.site for scan in own.scans}, own.findings) == ({"mine"}, ())


def test_only_the_sites_asked_for_are_read(root: Path) -> None:
    """A site that is not there is an error which names those that are."""
    add_subject(root, "b0", 30)
    write_table(root, [*bids_rows(["g0"]), {**bids_rows(["b0"])[0], "site": "B"}])
    table = read(SourceConfig(path=str(root), sites=("B",)))
    assert [scan.subject for scan in table.scans] == ["b0"]
    with pytest.raises(DataError, match=r"found sites A, B, want also C.*\[D06\]"):
        read(SourceConfig(path=str(root), sites=("B", "C")))


@pytest.mark.parametrize("path", ["", "/no/such/folder", "x" * 5000, "nul\0byte"])
def test_a_folder_that_is_not_there_is_an_error(path: str) -> None:
    """The answer is a code, whatever the path is."""
    with pytest.raises(DataError, match=r"\[D04\]"):
        read(SourceConfig(path=path))


def test_an_empty_folder_has_no_layout(tmp_path: Path) -> None:
    """The message says what a data set looks like."""
    with pytest.raises(DataError, match=r"want sub-\* folders .* \[D04\]"):
        read(SourceConfig(path=str(tmp_path)))


@real_data
def test_lgg_has_its_subjects_sites_and_missing_sequences() -> None:
    """96 patients of 4 sites; by its own table 91 have a T1w and 88 one after contrast."""
    path = f"{DATA}/lgg-bids"
    table = read(SourceConfig(path=path, modalities=LGG_MODALITIES))
    assert table.n_found == {"CS": 16, "DU": 45, "EZ": 1, "HT": 34}
    assert Counter(m for scan in table.scans for m in scan.images) == dict(
        zip(LGG_MODALITIES, (96, 91, 88), strict=True)
    )
    names = {"FLAIR": "FLAIR", "T1w": "T1w", "ceT1w": "ce-gadolinium_T1w"}
    for scan in table.scans:
        assert {names[m] for m in scan.columns["modalities"].split(",")} == set(scan.images)
    assert all("mask" in scan.labels for scan in table.scans)
    skipped = read(SourceConfig(path=path, modalities=LGG_MODALITIES, missing="skip"))
    assert (len(skipped.scans), skipped.n_found) == (88, table.n_found)


@real_data
def test_ixi_has_its_subjects_and_label_maps() -> None:
    """185 adults of one site, each with a parcellation."""
    table = read(SourceConfig(path=f"{DATA}/ixi-hh-bids"))
    assert (len(table.scans), table.n_found, table.findings) == (185, {"HH": 185}, ())
    assert all("dseg" in scan.labels for scan in table.scans)

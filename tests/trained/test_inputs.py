"""What a path stands for: every scan by name, and nothing that goes without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmri.data.settings import SourceConfig
from fedmri.trained.inputs import Gathered, gather
from tests.data.worlds import save, volume
from tests.reports_of_others.dicom_files import series

FLAIR = SourceConfig(modalities=("FLAIR",))
BOTH = SourceConfig(modalities=("T1w", "FLAIR"))


def names(found: Gathered) -> list[str]:
    """Return how the names of the results of each scan begin."""
    return [one.name for one in found.inputs]


def write(folder: Path, *files: str) -> list[Path]:
    """Write a volume under each name."""
    paths = [folder / name for name in files]
    for seed, path in enumerate(paths):
        save(path, volume(seed))
    return paths


def test_sessions_and_runs_of_a_data_set_keep_their_names(tmp_path: Path) -> None:
    """Two sessions are two scans; of two runs the first is taken, and that is told."""
    write(
        tmp_path,
        "sub-1/ses-a/anat/sub-1_ses-a_FLAIR.nii.gz",
        "sub-1/ses-b/anat/sub-1_ses-b_run-1_FLAIR.nii.gz",
        "sub-1/ses-b/anat/sub-1_ses-b_run-2_FLAIR.nii.gz",
        "sub-2/anat/sub-2_T1w.nii.gz",
    )
    found = gather([tmp_path], {}, FLAIR)
    assert names(found) == ["sub-1_ses-a", "sub-1_ses-b_run-1"]
    assert [code for code, _ in found.inputs[1].remarks] == ["D25"]
    assert [(one.name, one.code) for one in found.left_out] == [("sub-2", "D24")]


def test_files_of_a_session_are_one_scan_of_several_modalities(tmp_path: Path) -> None:
    """BIDS names say what belongs together; a file without one is asked about."""
    files = write(
        tmp_path,
        "sub-1_ses-2_T1w.nii.gz",
        "sub-1_ses-2_FLAIR.nii.gz",
        "sub-2_FLAIR.nii",
        "sub-2_T2w.nii",
        "brain.nii.gz",
    )
    found = gather(files, {}, BOTH)
    assert names(found) == ["sub-1_ses-2", "sub-2"]
    assert sorted(found.inputs[0].scan.images) == ["FLAIR", "T1w"]
    assert sorted(found.inputs[1].scan.images) == ["FLAIR"]
    assert "sub-2_T2w.nii is not" in found.inputs[1].remarks[-1][1]
    assert [(one.name, one.code) for one in found.left_out] == [("brain.nii.gz", "D84")]


def test_a_folder_of_files_is_each_of_them(tmp_path: Path) -> None:
    """Files without a layout are scans by their own names, in letters and digits."""
    write(tmp_path, "first scan.nii.gz", "second/first-scan.nii")
    assert names(gather([tmp_path], {}, FLAIR)) == ["sub-firstscan", "sub-firstscanx2"]


def test_two_inputs_of_one_name_are_two_patients(tmp_path: Path) -> None:
    """That two data sets begin with a subject 01 does not mean one person: they do not vote."""
    files = write(tmp_path, "a/sub-01_ses-1_FLAIR.nii.gz", "b/sub-01_ses-1_FLAIR.nii.gz")
    found = gather(files, {}, FLAIR)
    assert names(found) == ["sub-01_ses-1", "sub-01x2_ses-1"]
    assert [one.scan.subject for one in found.inputs] == ["01", "01x2"]
    assert [code for code, _ in found.inputs[1].remarks] == ["D62"]


def test_a_folder_of_pictures_needs_no_classes(tmp_path: Path) -> None:
    """Folders of classes are for training: here each picture is a scan."""
    for seed, name in enumerate(("1.png", "deep/2.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(volume(seed)[:, :, 8].astype(np.uint8)).save(tmp_path / name)
    assert names(gather([tmp_path], {}, FLAIR)) == ["sub-1", "sub-2"]


def test_a_tree_of_series_is_a_scan_for_each_patient(tmp_path: Path) -> None:
    """Patients are folders, the contrast decides which series is taken, and the rest is told."""
    for seed, place in enumerate(("p1/flair", "p2/flair", "p2/t1")):
        says = "t1_mprage" if place.endswith("t1") else "t2_flair"
        series(tmp_path / "A" / place, seed, says=says)
    found = gather([tmp_path / "A"], {}, FLAIR)
    assert names(found) == ["sub-p1_ses-flair", "sub-p2_ses-flair"]
    assert "passed over" in "".join(reason for _, reason in found.inputs[1].remarks)


@pytest.mark.parametrize(
    ("name", "code"), [("nothing", "D84"), ("empty", "D04"), ("notes.txt", "D84")]
)
def test_what_is_no_scan_is_named(tmp_path: Path, name: str, code: str) -> None:
    """A path that stands for nothing is left out with a reason, and the others are read."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    [good] = write(tmp_path, "sub-1_FLAIR.nii.gz")
    found = gather([tmp_path / name, good], {}, FLAIR)
    assert names(found) == ["sub-1"]
    assert [one.code for one in found.left_out] == [code]
    assert name in found.left_out[0].name


def test_what_is_odd_about_a_whole_data_set_is_told(tmp_path: Path) -> None:
    """A row of the table without a folder is no scan, and that is said."""
    write(tmp_path, "sub-1/anat/sub-1_FLAIR.nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-1\nsub-9\n")
    found = gather([tmp_path], {}, FLAIR)
    assert names(found) == ["sub-1"]
    assert [code for code, _ in found.notes] == ["D28"]
    assert "sub-9" in found.notes[0][1]

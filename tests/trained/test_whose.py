"""Whose scan an input is: patients stay apart, and results are no inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmri.data.settings import SourceConfig
from fedmri.errors import UsageError
from fedmri.trained.inputs import gather
from tests.reports_of_others.dicom_files import series
from tests.trained.test_inputs import BOTH, FLAIR, names, write


def told(found: object) -> list[str]:
    """Return the codes of remarks of the last scan."""
    return [code for code, _ in found.inputs[-1].remarks]  # type: ignore[attr-defined]


def test_two_data_sets_with_one_number_are_two_patients(tmp_path: Path) -> None:
    """Other sessions give other names of files; the scans must not vote as one patient's."""
    places = ("a/sub-01/ses-1/anat/sub-01_ses-1", "b/sub-01/ses-2/anat/sub-01_ses-2")
    write(tmp_path, *(f"{place}_FLAIR.nii.gz" for place in places))
    found = gather([tmp_path / "a", tmp_path / "b"], {}, FLAIR)
    assert names(found) == ["sub-01_ses-1", "sub-01x2_ses-2"]
    assert told(found) == ["D62"]


def test_two_sessions_of_one_data_set_are_one_patient(tmp_path: Path) -> None:
    """Named as files or as a folder, they vote."""
    files = [f"sub-01/ses-{n}/anat/sub-01_ses-{n}_FLAIR.nii.gz" for n in "12"]
    found = gather(write(tmp_path, *files), {}, FLAIR)
    assert [one.scan.subject for one in found.inputs] == ["01", "01"]


def test_a_scan_that_is_named_twice_is_predicted_on_once(tmp_path: Path) -> None:
    """A folder and a file in it are the same scan."""
    [file] = write(tmp_path, "sub-01_FLAIR.nii.gz")
    found = gather([tmp_path, file], {}, FLAIR)
    assert names(found) == ["sub-01"]
    assert [code for code, _ in found.notes] == ["D29"]


def test_names_that_differ_by_case_do_not_meet_on_any_disk(tmp_path: Path) -> None:
    """Some disks hold `sub-a` and `sub-A` as one folder."""
    found = gather(write(tmp_path, "sub-A_FLAIR.nii.gz", "sub-a_FLAIR.nii.gz"), {}, FLAIR)
    assert len({name.casefold() for name in names(found)}) == 2
    assert told(found) == ["D62"]


def test_results_of_an_earlier_call_are_no_scans(tmp_path: Path) -> None:
    """Masks that were written into the folder of the scans are passed over, and told."""
    write(tmp_path, "one.nii.gz", "results/sub-one/anat/sub-one_desc-x_dseg.nii.gz")
    made = tmp_path / "results" / "dataset_description.json"
    made.write_text('{"DatasetType": "derivative"}', encoding="utf-8")
    found = gather([tmp_path], {}, FLAIR)
    assert names(found) == ["sub-one"]
    assert [(code, "results" in reason) for code, reason in found.notes] == [("D29", True)]


def test_an_odd_name_does_not_cost_the_scans_beside_it(tmp_path: Path) -> None:
    """A link that leads nowhere looks like a subject of BIDS; the files are read all the same."""
    write(tmp_path, "sub-01_FLAIR.nii.gz", "sub-02_FLAIR.nii.gz")
    (tmp_path / "sub-03_FLAIR.nii.gz").symlink_to(tmp_path / "nothing")
    (tmp_path / "sub-04_FLAIR.nii.gz").mkdir()
    found = gather([tmp_path], {}, FLAIR)
    assert names(found) == ["sub-01", "sub-02"]
    assert "sub-03" in "".join(one.name for one in found.left_out)


def test_files_of_two_data_sets_are_not_mixed(tmp_path: Path) -> None:
    """One number in two hospitals: each keeps its own pair of modalities."""
    pairs = [f"{site}/sub-01_{m}.nii.gz" for site in "ab" for m in ("T1w", "FLAIR")]
    found = gather(write(tmp_path, *pairs), {}, BOTH)
    assert names(found) == ["sub-01", "sub-01x2"]
    for one in found.inputs:
        assert len({path.parent for path in one.scan.images.values()}) == 1


def test_folders_of_a_modality_each_are_one_scan_with_a_warning(tmp_path: Path) -> None:
    """That the same number means one person is not known, and said."""
    files = write(tmp_path, "T1w/sub-01_T1w.nii.gz", "FLAIR/sub-01_FLAIR.nii.gz")
    found = gather(files, {}, BOTH)
    assert sorted(found.inputs[0].scan.images) == ["FLAIR", "T1w"]
    assert told(found) == ["D62"]


def test_names_that_contradict_what_was_given_are_told(tmp_path: Path) -> None:
    """Modalities that were swapped, and files of two patients."""
    first, second = write(tmp_path, "sub-01_T1w.nii.gz", "sub-02_FLAIR.nii.gz")
    found = gather([], {"T1w": second, "FLAIR": first}, BOTH)
    assert told(found) == ["D24", "D24", "D62"]
    assert told(gather([], {"T1w": first}, BOTH)) == []


def test_one_file_is_not_two_modalities(tmp_path: Path) -> None:
    """It is a slip that a model answers without a word."""
    [file] = write(tmp_path, "sub-01_T1w.nii.gz")
    with pytest.raises(UsageError, match=r"one file for T1w, FLAIR.*\[U01\]"):
        gather([], {"T1w": file, "FLAIR": file}, BOTH)


def test_two_series_in_one_folder_are_two_scans(tmp_path: Path) -> None:
    """A folder of one patient that holds two series is read, though no folder names the patient."""
    for seed, name in enumerate(("A/p1", "B/A/p1")):
        series(tmp_path / name, seed, says="t2_flair")
    for file in (tmp_path / "B/A/p1").iterdir():
        file.rename(tmp_path / "A/p1" / f"z{file.name}")
    found = gather([tmp_path / "A/p1"], {}, SourceConfig(modalities=("FLAIR",)))
    assert len(found.inputs) == 2
    assert len(set(names(found))) == 2

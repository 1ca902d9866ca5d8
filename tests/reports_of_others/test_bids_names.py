"""Reports of others about names and places of BIDS files, and marks that nobody sees in tables."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import nibabel as nib
import numpy as np
import pytest

from fedmri.data.scans import ScanTable
from fedmri.errors import DataError
from fedmri.tasks.kinds.classification import Classification
from tests.data.worlds import save, write_table
from tests.reports_of_others.bids_worlds import (
    AFFINE,
    AGE,
    BRIGHT,
    codes,
    head,
    image_path,
    lesion,
    looked_at,
    mask_path,
    prepared,
    rows,
    under_lesion,
    world,
)

N_VOXELS = 24
Form = Literal["NFC", "NFD"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a good data set of three subjects."""
    world(tmp_path)
    return tmp_path


def reason(table: ScanTable, code: str) -> str:
    """Return the one reason of a code."""
    (found,) = {finding.reason for finding in table.findings if finding.code == code}
    return found


@pytest.mark.parametrize("ending", ["html", "zip", "json"])
def test_files_beside_the_subjects_are_no_subjects(ending: str, root: Path) -> None:
    """A report or an archive for each subject counts as no lost scan.

    Source: bids-standard/bids-specification#207 (derivatives are data sets of their own).
    """
    for name in "abc":
        (root / f"sub-{name}.{ending}").write_text("a report")
    table = looked_at(root)
    assert table.n_found == {"A": 3}
    assert not [finding for finding in table.findings if finding.is_excluded]


def test_images_beside_folders_of_sessions_are_read(root: Path) -> None:
    """A subject with ``anat`` and ``ses-v2`` has two scans, each with its own mask.

    Source: bids-standard/bids-specification#1780.
    """
    save(image_path(root, "a", session="v2"), head(9), AFFINE)
    save(mask_path(root, "a", session="v2"), lesion()[:, :, ::-1], AFFINE)
    table = looked_at(root)
    assert [scan.key for scan in table.scans if scan.subject == "a"] == ["a", "a_v2"]
    first = next(scan for scan in table.scans if scan.key == "a")
    assert first.labels["mask"] == mask_path(root, "a")
    assert under_lesion(prepared(root), "a") == (BRIGHT, N_VOXELS)


def test_a_mask_of_no_session_is_not_that_of_a_visit(root: Path) -> None:
    """Where images lie with and without a session, a mask without one is of the latter alone."""
    save(image_path(root, "a", session="v2"), head(9), AFFINE)
    table = looked_at(root)
    assert [scan.key for scan in table.scans if scan.subject == "a"] == ["a"]
    assert "derivatives/PIPELINE/sub-a/ses-v2/anat/sub-a_ses-v2_mask.nii.gz" in reason(table, "D16")


MISNAMED = {
    "ses-v2/anat/sub-d_T1w.nii.gz": ("D30", "v2"),
    "ses-v2/anat/sub-d_ses-v3_T1w.nii.gz": ("D30", "v2"),
    "ses-v2/anat/sub-d_ses-v2_acq-my-fast_T1w.nii.gz": ("D30", "v2"),
    "ses-v2/anat/sub-d_ses-v2_T1w (1).nii.gz": ("D30", "v2"),
    "ses-v2/anat/sub-d_ses-v2_part-mag_T1w.nii.gz": ("D24", "v2"),
    "ses-v2/sub-d_ses-v2_T1w.nii.gz": ("D30", "v2"),
    "SES-v2/anat/sub-d_ses-v2_T1w.nii.gz": ("D29", ""),
}


@pytest.mark.parametrize("name", MISNAMED)
def test_a_misnamed_visit_is_told(name: str, root: Path) -> None:
    """A follow-up whose name does not fit its folders never vanishes without a word.

    Source: bids-standard/legacy-validator#183, bids-standard/legacy-validator#264.
    """
    save(image_path(root, "d", session="v1"), head(5), AFFINE)
    save(root / "sub-d" / name, head(6), AFFINE)
    write_table(root, rows(a="A", b="A", c="A", d="A"))
    table = looked_at(root, AGE)
    code, session = MISNAMED[name]
    said = [f for f in table.findings if f.code == code]
    assert [(f.subject, f.session) for f in said] == [("d", session)]
    assert Path(name).name in said[0].reason or "part-mag_T1w" in said[0].reason
    assert [scan.key for scan in table.scans] == ["a", "b", "c", "d_v1"]


OTHERS = {
    "part-mag_T1w": "part-mag_T1w",
    "echo-1_T1w": "echo-1_T1w",
    "desc-preproc_T1w": "desc-preproc_T1w",
    "T1map": "T1map",
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_subject_without_the_modality_shows_what_it_has(name: str, root: Path) -> None:
    """Parts, echoes and derivatives are asked for by name, and the message has the names.

    Source: rordenlab/dcm2niix#189 (parts), ivadomed/ivadomed#860 (``desc``).
    """
    image_path(root, "a").rename(image_path(root, "a", name))
    table = looked_at(root, AGE)
    assert codes(table, "a") == {"D24": True}
    assert OTHERS[name] in reason(table, "D24")
    assert looked_at(root, AGE, modalities=(name,)).scans[0].subject == "a"


PLACES: dict[str, Callable[[Path], object]] = {
    "beside the image": lambda root: mask_path(root, "a").rename(image_path(root, "a", "mask")),
    "without a pipeline": lambda root: shutil.move(
        root / "derivatives/manual/sub-a", root / "derivatives/sub-a"
    ),
    "as suffix and tail": lambda root: mask_path(root, "a").rename(
        mask_path(root, "a", "T1w_seg-manual")
    ),
    "without a data type": lambda root: mask_path(root, "a").rename(
        root / "derivatives/manual/sub-a/sub-a_mask.nii.gz"
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_label_elsewhere_is_told_its_place(place: str, root: Path) -> None:
    """The message names the very path where the label is looked for.

    Source: ivadomed/ivadomed#597, bids-standard/bids-specification#377.
    """
    PLACES[place](root)
    table = looked_at(root)
    assert codes(table, "a") == {"D16": True}
    assert "want derivatives/PIPELINE/sub-a/anat/sub-a_mask.nii.gz" in reason(table, "D16")


HEADER = "participant_id\tsite\tage\n"
ROWS = "sub-a\tA\t40\nsub-b\tA\t41\nsub-c\tA\t42\n"
TABLES: dict[str, bytes] = {
    "tabs at all ends": (HEADER + ROWS).replace("\n", "\t\t\n").encode(),
    "tabs at the ends of rows": (HEADER + ROWS.replace("\n", "\t\n")).encode(),
    "notes without a name": (HEADER + ROWS).replace("\n", "\t\n").replace("40\t", "40\tx").encode(),
    "end of file of DOS": (HEADER + ROWS).encode() + b"\x1a",
    "zero width": (HEADER + ROWS.replace("sub-b", "sub-b\u200b")).encode(),
    "mark in the middle": (HEADER + ROWS.replace("sub-b", "\ufeffsub-b")).encode(),
    "blank that does not break": (HEADER + ROWS.replace("sub-b", "sub-b\u00a0")).encode(),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_a_spreadsheet_adds_costs_no_row(name: str, root: Path) -> None:
    """Empty columns at the end and marks that nobody sees change nothing.

    Source: bids-standard/bids-matlab#96, bids-standard/bids-examples#543, eegdash/EEGDash#264.
    """
    (root / "participants.tsv").write_bytes(TABLES[name])
    table = looked_at(root, AGE)
    assert [(scan.subject, scan.columns["age"]) for scan in table.scans] == [
        ("a", "40"),
        ("b", "41"),
        ("c", "42"),
    ]
    assert not table.findings


@pytest.mark.parametrize("written", ["7", "sub_007", "7.0", "SUB-007"])
def test_a_name_that_a_spreadsheet_changed_is_told_with_its_row(written: str, root: Path) -> None:
    """Zeros in front that got lost are never guessed, and the message shows both names.

    Source: bids-standard/legacy-validator#1674, incf-nidash/PyNIDM#441, mne-tools/mne-bids#1065.
    """
    save(image_path(root, "007"), head(5), AFFINE)
    table = f"{HEADER}{ROWS}{written}\tA\t50\n"
    (root / "participants.tsv").write_text(table)
    said = {f.reason for f in looked_at(root, AGE).findings if f.code == "D28" and f.is_excluded}
    assert len(said) == 1
    assert repr(written.removeprefix("sub-")) in said.pop()


def test_a_visit_written_otherwise_is_told_with_its_row(root: Path) -> None:
    """``1`` in the table and ``ses-01`` on the disk: no age, and both names in the message."""
    save(image_path(root, "d", session="01"), head(5), AFFINE)
    (root / "sub-d/sub-d_sessions.tsv").write_text("session_id\tage\n1\t50\n")
    write_table(root, rows(a="A", b="A", c="A", d="A"))
    table = looked_at(root, AGE)
    assert codes(table, "d") == {"D16": True, "D28": False}
    assert "one for '1'" in reason(table, "D28")


def linked(path: Path) -> None:
    """Put a link of git-annex in place of a file."""
    path.unlink()
    path.symlink_to(".git/annex/objects/xx/MD5E-s9--a.tsv")


POINTERS: dict[str, Callable[[Path], object]] = {
    "git annex get": linked,
    "git lfs pull": lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid x\n"),
}


@pytest.mark.parametrize("command", POINTERS)
def test_a_table_that_was_not_fetched_names_the_command(command: str, root: Path) -> None:
    """The table is there for git alone.

    Source: datalad/datalad#3513.
    """
    POINTERS[command](root / "participants.tsv")
    with pytest.raises(DataError, match=rf"participants.tsv.*{command}.*\[D58\]"):
        looked_at(root, AGE)


@pytest.mark.parametrize("name", ["participants.csv", "Participants.tsv", "participants.xlsx"])
def test_a_table_of_another_name_is_told(name: str, root: Path) -> None:
    """Sites and ages are missing because of one name."""
    (root / "participants.tsv").rename(root / name)
    assert f"Save {name} as participants.tsv" in reason(looked_at(root, AGE), "D06")


@pytest.mark.parametrize("word", ["TBD", "not specified", "Not Recorded", "??"])
def test_words_for_a_site_that_is_not_known_are_none(word: str, root: Path) -> None:
    """Forms fill an empty field in their own words (spine-generic/spine-generic#232)."""
    write_table(root, rows(a="A", b=word, c="A"))
    assert codes(looked_at(root, AGE), "b") == {"D06": True}


@pytest.mark.parametrize(
    ("one", "other"), [("A", "\u0410"), ("Site 1", "site\u2011001"), ("BKU", "\u0392KU")]
)
def test_sites_in_letters_of_another_alphabet_are_told(one: str, other: str, root: Path) -> None:
    """A Cyrillic A looks like a Latin one, and makes a second hospital."""
    write_table(root, rows(a=one, b=other, c="C"))
    assert "D71" in {finding.code for finding in looked_at(root, AGE).findings}


def rewritten(path: Path, **edits: bytes) -> None:
    """Write bytes into the header of a file, by the names of its fields."""
    places = {"quaternion": 256, "sform": 280, "qform_code": 252, "sform_code": 254}
    raw = bytearray(gzip.decompress(path.read_bytes()))
    for name, value in edits.items():
        raw[places[name] : places[name] + len(value)] = value
    path.write_bytes(gzip.compress(bytes(raw)))


def formed(root: Path, *, has_sform: bool = True) -> list[Path]:
    """Write image and mask of subject a with both forms, and return where."""
    paths = [image_path(root, "a"), mask_path(root, "a")]
    for path, array in zip(paths, (head(0), lesion()), strict=True):
        image = nib.Nifti1Image(array, AFFINE)
        image.set_sform(AFFINE, int(has_sform))
        image.set_qform(AFFINE, 1)
        nib.save(image, path)
    return paths


NO_ROTATION = np.array([0.8, 0.7, 0.3], "<f4").tobytes()
ROUNDED = np.array([np.sqrt(1 + 1e-6), 0, 0], "<f4").tobytes()


@pytest.mark.parametrize(
    ("quaternion", "has_sform", "code", "is_used"),
    [
        (NO_ROTATION, True, {"D57": False}, True),
        (NO_ROTATION, False, {"D12": True}, False),
        (ROUNDED, False, {"D13": False}, True),  # it is half a turn
    ],
)
def test_a_quaternion_that_is_no_rotation_costs_no_good_sform(
    quaternion: bytes, has_sform: bool, code: dict[str, bool], is_used: bool, root: Path
) -> None:
    """Files whose sform is right were lost with "w2 should be positive".

    Source: nipreps/fmriprep#845, nipy/nibabel#626, spinalcordtoolbox/spinalcordtoolbox#3703.
    """
    for path in formed(root, has_sform=has_sform):
        rewritten(path, quaternion=quaternion)
    table = looked_at(root, AGE)
    assert codes(table, "a") == code
    assert ("a" in {scan.subject for scan in table.scans}) is is_used


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_empty_sform_is_told_as_such(value: float, root: Path) -> None:
    """It does not mirror the qform: it is nothing at all.

    Source: MRtrix3/mrtrix3#94, nipy/nibabel#522.
    """
    for path in formed(root):
        rewritten(path, sform=np.full(12, value, "<f4").tobytes())
    table = looked_at(root)
    assert codes(table, "a") == {"D12": True}
    assert not any("mirror" in finding.reason for finding in table.findings)


def test_a_slice_in_two_dimensions_is_one_slice(root: Path) -> None:
    """It lies as a volume of one slice does, and is not refused with "want one slice".

    Source: MIC-DKFZ/nnUNet#1348, frankkramer-lab/MIScnn#41.
    """
    places: dict[Path, np.ndarray] = {
        image_path(root, "a"): head(0),
        mask_path(root, "a"): lesion(),
    }
    for path, array in places.items():
        save(path, np.ascontiguousarray(array[:, :, 3]), AFFINE)
    assert codes(looked_at(root), "a") == {}
    assert under_lesion(prepared(root), "a") == (BRIGHT, N_VOXELS // 4)


VOXELS: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "colours": (lambda: np.zeros(head(0).shape, [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colour"),
    "complex": (lambda: head(0).astype(np.complex64), "magnitude"),
}


@pytest.mark.parametrize("name", VOXELS)
def test_voxels_that_are_no_numbers_are_told_what_to_do(name: str, root: Path) -> None:
    """No list of fields of a programming language (moloney/dcmstack#74, rordenlab/dcm2niix#189)."""
    make, word = VOXELS[name]
    nib.save(nib.Nifti1Image(make(), AFFINE), image_path(root, "a"))
    table = looked_at(root, AGE)
    assert codes(table, "a") == {"D08": True}
    assert word in reason(table, "D08")


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"<!DOCTYPE html><html>" * 40, "web page"), (b"PK\x03\x04" + bytes(500), "archive")],
)
def test_a_file_of_another_kind_is_named(content: bytes, word: str, root: Path) -> None:
    """A download that failed leaves a page under the name of an image (datalad/datalad#5394)."""
    image_path(root, "a").write_bytes(content)
    table = looked_at(root, AGE)
    assert codes(table, "a") == {"D07": True}
    assert word in reason(table, "D07")


MAPS: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "one probability": (lambda: lesion() * np.float32(0.7), "threshold"),
    "negative": (lambda: lesion().astype(np.int16) - 1, "negative"),
}


@pytest.mark.parametrize("name", MAPS)
def test_advice_about_values_can_be_followed(name: str, root: Path) -> None:
    """``0:lesion`` for 0.3, or ``-1:lesion``, would be wrong or refused.

    Source: TorchIO-project/torchio#220, MIC-DKFZ/nnUNet#439.
    """
    make, word = MAPS[name]
    save(mask_path(root, "a"), make(), AFFINE)
    said = reason(looked_at(root), "D15")
    assert word in said
    assert "target.labels, as in" not in said


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("declared", ["NFC", "NFD"])
def test_an_umlaut_has_one_form(written: Form, declared: Form, root: Path) -> None:
    """A class and its column are the same words, whichever way a Mac or an editor wrote them.

    Source: uewepuep/FPVTracksideCore#75 (names with an umlaut that match nothing).
    """
    column, classes = "männlich", ("für", "wider")
    table = f"participant_id\tsite\t{column}\na\tA\tfür\nb\tA\twider\nc\tA\tfür\n"
    (root / "participants.tsv").write_text(normalize(written, table), encoding="utf-8")
    target = Classification(column, [normalize(declared, one) for one in classes])
    scans = looked_at(root, target).scans
    assert [target.truth(scan) for scan in scans] == [0.0, 1.0, 0.0]

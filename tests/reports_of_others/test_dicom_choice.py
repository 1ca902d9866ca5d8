"""Which series is which modality, and which folder is which patient, as others got it wrong."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from fedmri.data.batches.split import split_subjects
from fedmri.data.checks.check import enforce
from fedmri.data.files.volume import load_image
from fedmri.data.scans import ScanTable
from fedmri.data.settings import CheckConfig, SourceConfig, SplitConfig
from fedmri.errors import ConfigError, DataError
from tests.data.worlds import mask, save
from tests.reports_of_others.dicom_files import Edit, fields, series, truth
from tests.reports_of_others.test_dicom_series import AGE, found, told

NAMES = {"t1": "t1_mprage_sag", "flair": "t2_tirm_tra_dark-fluid", "adc": "ep2d_diff_ADC"}
UNNAMED = {"says": ""}


@dataclass(frozen=True)
class Wish:
    """Series of a subject, and which of them a modality is.

    Attributes:
        name: What is special.
        source: Repository and number of the thread.
        modality: What is asked for.
        says: Description of each series; the seed of its voxels is its place, from 1.
        right: Place of the right one; 0 where a person has to decide.
        edits: Further fields of each.
    """

    name: str
    source: str
    modality: str
    says: tuple[str, ...]
    right: int
    edits: tuple[dict[str, object], ...] = ()

    def __str__(self) -> str:
        return self.name


HEUDICONV = "nipy/heudiconv#3"
T1_TIMES: dict[str, object] = {"RepetitionTime": 2300, "EchoTime": 2.9, "InversionTime": 900}
FLAIR_TIMES: dict[str, object] = {"RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500}
T2_TIMES: dict[str, object] = {"RepetitionTime": 4500, "EchoTime": 100}
WISHES = [
    Wish("FLAIR of T1, FLAIR and ADC", HEUDICONV, "FLAIR", tuple(NAMES.values()), 2),
    Wish("T1 of T1, FLAIR and ADC", HEUDICONV, "T1w", tuple(NAMES.values()), 1),
    Wish("ADC of T1, FLAIR and ADC", "nipy/heudiconv#633", "ADC", tuple(NAMES.values()), 3),
    Wish("T1 FLAIR is a T1", HEUDICONV, "T1w", ("Ax T2 FLAIR FS", "Ax T1 FLAIR"), 2),
    Wish("T2 is no FLAIR and no T2*", HEUDICONV, "T2w", ("t2_fl2d_hemo", "t2_flair", "t2_tse"), 3),
    Wish(
        "by sequence times alone",
        HEUDICONV,
        "FLAIR",
        ("", "", ""),
        3,
        (T1_TIMES, T2_TIMES, FLAIR_TIMES),
    ),
    Wish("T1 by sequence times", HEUDICONV, "T1w", ("", ""), 2, (FLAIR_TIMES, T1_TIMES)),
    Wish(
        "scout and reformats beside",
        "rordenlab/dcm2niix#393",
        "T1w",
        ("localizer", "t1_mpr_ns_sag", "t1_mpr_ns_sag"),
        2,
        ({}, {}, {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}),
    ),
    Wish("Siemens scout", "nipy/heudiconv#788", "T1w", ("AAHead_Scout_T1", "T1 3D FSPGR"), 2),
    Wish("without contrast agent", HEUDICONV, "T1w", ("T1 SE", "T1 SE +Gd"), 1),
    Wish("with contrast agent", HEUDICONV, "ce-gadolinium_T1w", ("T1 SE", "T1 SE post KM"), 2),
    Wish(
        "agent in the header alone",
        HEUDICONV,
        "T1w",
        ("T1 SE", "T1 SE"),
        2,
        ({"ContrastBolusAgent": "Gadovist"}, {}),
    ),
    Wish("only with agent", HEUDICONV, "T1w", ("T1 SE +C",), 0),
    Wish("two different FLAIR", "nipy/heudiconv#487", "FLAIR", ("flair_tra", "flair_sag_3d"), 0),
    Wish("only T1", HEUDICONV, "FLAIR", ("t1_mprage",), 0),
    Wish("nothing tells", HEUDICONV, "FLAIR", ("scan a", "scan b"), 0),
    Wish("one that nothing tells", HEUDICONV, "FLAIR", ("routine head",), 1),
    Wish(
        "name and times contradict",
        HEUDICONV,
        "T1w",
        ("t1_se",),
        0,
        ({**T2_TIMES, "ScanningSequence": "SE"},),
    ),
]


def write(root: Path, wish: Wish) -> None:
    """Write the series of a wish, each into a folder whose name says nothing."""
    edits = wish.edits or ({},) * len(wish.says)
    for place, (says, edit) in enumerate(zip(wish.says, edits, strict=True), start=1):
        times = {"EchoTime": None} if not edit.get("EchoTime") else {}
        series(root / f"A/bad/{place}", place, says=says, edit=fields(**{**times, **edit}))


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_the_right_series_is_taken_or_a_person_is_asked(wish: Wish, tmp_path: Path) -> None:
    """A series that is not asked for is never trained on, and what is passed over is said."""
    write(tmp_path, wish)
    series(tmp_path / "A/good", 9, says="routine")
    table = found(tmp_path, modalities=(wish.modality,))
    scans = [scan for scan in table.scans if scan.subject == "bad"]
    if not wish.right:
        assert (scans, told(table)["D61"]) == ([], True)
        (reason,) = [f.reason for f in table.findings if f.code == "D61"]
        assert "data.source.series" in reason
        return
    (scan,) = scans
    assert np.array_equal(load_image(scan.images[wish.modality])[0], truth(wish.right))
    assert (told(table).get("D29") is False) == (len(wish.says) > 1)


def test_a_pattern_decides_alone(tmp_path: Path) -> None:
    """Whoever knows the protocol names the series; a wrong name asks again."""
    write(tmp_path, Wish("", "", "FLAIR", ("flair_tra", "flair_sag_3d", "t1"), 0))
    table = found(tmp_path, series=("FLAIR=sag.*3d",))
    (scan,) = table.scans
    assert np.array_equal(load_image(scan.images["FLAIR"])[0], truth(2))
    with pytest.raises(DataError, match=r"none of 3 series is FLAIR.*D61"):
        found(tmp_path, series=("FLAIR=coronal",))
    for wrong in ("FLAIR", "FLAIR=(", "T2w=t2"):
        with pytest.raises(ConfigError, match=r"source\.series.*C01"):
            SourceConfig(path=str(tmp_path), modalities=("FLAIR",), series=(wrong,))


def test_modalities_of_one_visit_are_one_scan(tmp_path: Path) -> None:
    """T1 and FLAIR of three folders become two channels of one scan (nipy/heudiconv#3)."""
    for place, name in enumerate(NAMES, start=1):
        series(tmp_path / "A/bad" / name, place, says=NAMES[name])
    (scan,) = found(tmp_path, modalities=("T1w", "FLAIR")).scans
    got = [load_image(scan.images[name])[0] for name in ("T1w", "FLAIR")]
    assert [np.array_equal(*pair) for pair in zip(got, (truth(1), truth(2)), strict=True)] == [
        True,
        True,
    ]


def test_visits_stay_apart(tmp_path: Path) -> None:
    """Two examinations of a patient are two scans, and neither is mixed with the other."""
    for visit in ("2019", "2021"):
        for place, name in enumerate(NAMES, start=1):
            seed = place + 10 * (visit == "2021")
            series(tmp_path / "A/bad" / visit / name, seed, says=NAMES[name])
    table = found(tmp_path, modalities=("T1w", "FLAIR"))
    assert [scan.key for scan in table.scans] == ["bad_2019", "bad_2021"]
    voxels = [load_image(scan.images["FLAIR"])[0] for scan in table.scans]
    assert np.array_equal(voxels[0], truth(2))
    assert np.array_equal(voxels[1], truth(12))


def test_no_text_of_a_header_is_quoted(tmp_path: Path) -> None:
    """A question shows words that name sequences; a name beside them stays in the file."""
    write(tmp_path, Wish("", "", "FLAIR", ("flair tra Mrs Miller", "flair sag Miller 1954"), 0))
    series(tmp_path / "A/good", 9)
    reasons = " ".join(f.reason for f in found(tmp_path).findings)
    assert "flair sag" in reasons
    assert "iller" not in reasons
    assert "1954" not in reasons


def numbered(number: str, born: str = "") -> Edit:
    """Return an edit that sets patient number and day of birth."""
    return fields(PatientID=number, PatientBirthDate=born)


def test_one_number_in_two_folders_is_one_patient(tmp_path: Path) -> None:
    """They share a name, so that no split can part them (UCSD-AI4H/COVID-CT#11)."""
    for seed, name in enumerate(("a", "b", "c", "d", "e"), start=1):
        edit = numbered("SAME" if name in "bd" else f"patient-{name}")
        series(tmp_path / "A" / name, seed, edit=edit)
    table = found(tmp_path)
    assert [scan.key for scan in table.scans] == ["a", "b", "b_d", "c", "e"]
    assert told(table, "b") == {"D60": False}
    sides = [split_subjects(table.scans, AGE, SplitConfig(), seed) for seed in range(5)]
    assert all(set(side) == {"a", "b", "c", "e"} for side in sides)
    apart = found(tmp_path, patient_numbers="ignore")
    assert [scan.subject for scan in apart.scans] == ["a", "b", "c", "d", "e"]


def test_two_numbers_in_one_folder_are_left_out(tmp_path: Path) -> None:
    """Two patients in a folder are nobody's scan, unless both are pseudonyms of one."""
    for place in (1, 2):
        edit = numbered(f"patient-{place}")
        series(tmp_path / f"A/bad/{place}", place, edit=edit, says=("t2_flair", "t1")[place - 1])
    series(tmp_path / "A/good", 9)
    table = found(tmp_path)
    assert told(table)["D60"] is True
    assert [scan.subject for scan in table.scans] == ["good"]
    assert len(found(tmp_path, patient_numbers="ignore").scans) == 2


@pytest.mark.parametrize("number", ["", "ANONYMIZED", "0", "study 7"], ids=repr)
def test_a_placeholder_joins_nobody(number: str, tmp_path: Path) -> None:
    """What anonymisers write for all names nobody (datalad/example-dicom-structural#1)."""
    for seed, name in enumerate("abcd", start=1):
        series(tmp_path / "A" / name, seed, edit=numbered(number))
    table = found(tmp_path)
    assert [scan.subject for scan in table.scans] == list("abcd")
    assert told(table, "a") == ({"D60": False} if number == "study 7" else {})


@pytest.mark.parametrize(
    ("days", "n_subjects"),
    [(("19500101",) * 4, 1), (("19500101", "19510101", "19520101", "19530101"), 4)],
)
def test_name_and_day_of_birth_tell_who_shares_a_number(
    days: list[str], n_subjects: int, tmp_path: Path
) -> None:
    """Four folders of one number are one person of one birthday, or four of four."""
    for seed, (name, day) in enumerate(zip("abcd", days, strict=True), start=1):
        series(tmp_path / "A" / name, seed, edit=numbered("7001", day))
    table = found(tmp_path)
    assert len({scan.patient for scan in table.scans}) == n_subjects
    assert "D60" in {finding.code for finding in table.findings}


@pytest.mark.parametrize("start", [b"\x02\x00\x00\x00", b"\x08\x00\x05\x00"], ids=repr)
def test_a_file_that_only_begins_so_is_no_image(start: bytes, tmp_path: Path) -> None:
    """Numbers of some other program beside a series do not cost the series."""
    series(tmp_path / "A/bad", 1)
    (tmp_path / "A/bad/cache.bin").write_bytes(start + bytes(range(1, 200, 2)) * 9)
    table = found(tmp_path)
    assert [scan.subject for scan in table.scans] == ["bad"]
    assert told(table) == {"D29": False}


def test_sites_number_their_own_patients(tmp_path: Path) -> None:
    """Folders 1 and 2 of two hospitals are four patients (FCP-INDI/C-PAC#412)."""
    for seed, place in enumerate(("A/1", "A/2", "A/3", "B/1", "B/2"), start=1):
        series(tmp_path / place, seed)
    rows = "site\tparticipant_id\tage\nA\t1\t31\nA\t2\t32\nA\t3\t33\nB\t1\t41\nB\t2\t42\n"
    table = found(tmp_path)  # which writes a table without sites
    assert [(f.code, f.subject, f.is_excluded) for f in table.findings if f.code == "D28"] == [
        ("D28", name, True) for name in "1212"
    ]
    (tmp_path / "participants.tsv").write_text(rows)
    source = SourceConfig(path=str(tmp_path), modalities=("FLAIR",))
    told_ages = [f"{s.site}{s.subject} {s.columns['age']}" for s in read_again(source).scans]
    assert told_ages == ["A1 31", "A2 32", "A3 33", "B1 41", "B2 42"]
    enforce(read_again(source), CheckConfig())


def read_again(source: SourceConfig) -> ScanTable:
    """Read and examine with the table that is there."""
    from fedmri.data.checks.check import examine
    from fedmri.data.read import read

    return examine(read(source), AGE, CheckConfig(), source.modalities)


def test_a_label_lies_beside_its_series(tmp_path: Path) -> None:
    """``mask.nii.gz`` in the subject's folder is the label ``mask``; a series' own is nearer."""
    series(tmp_path / "A/one/flair", 1)
    series(tmp_path / "A/two", 2)
    save(tmp_path / "A/one/mask.nii.gz", mask(1))
    save(tmp_path / "A/one/flair/lesion.nii.gz", mask(1))
    save(tmp_path / "A/two/mask.nii.gz", mask(2))
    (tmp_path / "A/two/mask.nii.gz").rename(tmp_path / "A/two/mask.NII.GZ")
    scans = found(tmp_path).scans
    assert [sorted(scan.labels) for scan in scans] == [["lesion", "mask"], ["mask"]]


def test_a_study_of_its_own_for_every_slice_changes_nothing(tmp_path: Path) -> None:
    """Anonymisers that make up numbers by file divide no visit."""

    def edit(data: FileDataset, _: int) -> None:
        data.StudyInstanceUID = generate_uid()

    for place, name in enumerate(NAMES, start=1):
        series(tmp_path / "A/bad" / name, place, says=NAMES[name], edit=edit)
    (scan,) = found(tmp_path, modalities=("T1w", "FLAIR")).scans
    assert set(scan.images) == {"T1w", "FLAIR"}


def test_slices_with_a_series_number_each_are_one_series(tmp_path: Path) -> None:
    """Some anonymisers make up a series for every file (rordenlab/dcm2niix#236)."""

    def edit(data: FileDataset, _: int) -> None:
        data.SeriesInstanceUID = generate_uid()

    series(tmp_path / "A/bad", 1, edit=edit)
    (scan,) = found(tmp_path).scans
    assert np.array_equal(load_image(scan.images["FLAIR"])[0], truth(1))


def test_half_a_series_is_no_volume(tmp_path: Path) -> None:
    """Archives put every so many files into a folder of their own; halves are left out."""
    series(tmp_path / "A/bad/1", 1, edit=fields(SeriesInstanceUID="1.2.3"))
    (tmp_path / "A/bad/2").mkdir()
    for index in (3, 4, 5):
        (tmp_path / f"A/bad/1/{index}.dcm").rename(tmp_path / f"A/bad/2/{index}.dcm")
    series(tmp_path / "A/good", 9)
    table = found(tmp_path)
    assert told(table)["D32"] is True
    assert [scan.subject for scan in table.scans] == ["good"]


def test_a_folder_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    """A copy of a series' folder is no second scan (icometrix/dicom2nifti#130)."""
    series(tmp_path / "A/bad/flair", 1)
    shutil.copytree(tmp_path / "A/bad/flair", tmp_path / "A/bad/flair (2)")
    table = found(tmp_path)
    assert len(table.scans) == 1
    assert told(table)["D29"] is False


def test_folders_of_one_patient_each_may_be_no_sites(tmp_path: Path) -> None:
    """A tree of patients without a site reads as a site for each, which is said."""
    for seed, place in enumerate(("A/flair", "B/scan", "C/head"), start=1):
        series(tmp_path / place, seed)
    table = found(tmp_path)
    assert [(f.code, f.is_excluded) for f in table.findings if f.code == "D06"] == [("D06", False)]
    assert "data.source.site" in table.findings[0].reason
    assert found(tmp_path, site="mine").n_found == {"mine": 3}

"""Reports of others about subject tables: the right visit, the right site, the right age."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from fedmri.data.checks.check import enforce
from fedmri.data.read import read
from fedmri.data.settings import CheckConfig, SourceConfig
from fedmri.errors import ConfigError
from fedmri.machine.file_names import file_name
from fedmri.simulation.partition import PartitionConfig, partition
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.task import single
from tests.data.worlds import save, volume, write_table
from tests.reports_of_others.bids_worlds import (
    AFFINE,
    AGE,
    SHAPE,
    codes,
    image_path,
    looked_at,
    prepared,
    rows,
    world,
)


def visits(root: Path) -> None:
    """Write two subjects with two visits each, the ages of the first ones in the subject table."""
    for number, subject in enumerate(("a", "b")):
        for session in ("v1", "v2"):
            path = image_path(root, subject, session=session)
            save(path, volume(10 * number + int(session[1]), SHAPE), AFFINE)
    write_table(root, rows(a="A", b="A"))


def ages(root: Path) -> dict[str, float]:
    """Return the age that each scan would be trained with."""
    return {scan.scan: single(scan.target) for scan in prepared(root, AGE).scans}


def test_the_age_of_a_visit_is_that_visits(tmp_path: Path) -> None:
    """A table of sessions beats the subject table, by session.

    Source: DCAN-Labs/BIBSnet#27, nipreps/nibabies#75, bids-standard/bids-specification#1020.
    """
    visits(tmp_path)
    for subject, first in (("a", 40), ("b", 41)):
        text = f"session_id\tage\nses-v1\t{first}\nses-v2\t{first + 4}\n"
        (tmp_path / f"sub-{subject}/sub-{subject}_sessions.tsv").write_text(text)
    assert ages(tmp_path) == {"a_v1": 40, "a_v2": 44, "b_v1": 41, "b_v2": 45}


def test_an_age_that_a_visit_lacks_is_not_that_of_the_first(tmp_path: Path) -> None:
    """An empty cell, or no row, is a missing age.

    Source: bids-standard/bids2nda#35 (the first match stands for all sessions).
    """
    visits(tmp_path)
    (tmp_path / "sub-a/sub-a_sessions.tsv").write_text("session_id\tage\nv1\t40\nv2\tn/a\n")
    (tmp_path / "sub-b/sub-b_sessions.tsv").write_text("session_id\tage\nses-v1\t41\n")
    assert ages(tmp_path) == {"a_v1": 40, "b_v1": 41}
    assert codes(looked_at(tmp_path, AGE), "b") == {"D16": True, "D28": False}


@pytest.mark.parametrize("column", ["session_id", "session", "ses"])
def test_a_subject_table_may_have_a_row_for_each_visit(column: str, tmp_path: Path) -> None:
    """Rows of one subject that differ by session do not contradict each other.

    Source: bids-standard/bids-website#416, jmtyszka/bidskit#17.
    """
    visits(tmp_path)
    listed = [
        {"participant_id": f"sub-{subject}", column: session, "site": "A", "age": age}
        for subject, session, age in [
            ("a", "ses-v1", "50"),
            ("a", "v2", "54"),
            ("b", "v1", "60"),
            ("b", "v2", "64"),
        ]
    ]
    write_table(tmp_path, listed)
    assert ages(tmp_path) == {"a_v1": 50, "a_v2": 54, "b_v1": 60, "b_v2": 64}


def test_one_row_for_several_visits_is_said(tmp_path: Path) -> None:
    """Nothing tells that the age is that of one visit alone, so a warning does."""
    visits(tmp_path)
    assert [f.code for f in looked_at(tmp_path, AGE).findings] == ["D75"]


@pytest.mark.parametrize("other", ["a", " sub-a ", "sub-a"])
def test_rows_that_contradict_each_other_are_not_believed(other: str, tmp_path: Path) -> None:
    """``sub-a`` and ``a`` are one subject, so the last of two ages does not win."""
    listed = rows(a="A", b="A", c="A")
    world(tmp_path, listed)
    write_table(tmp_path, [*listed, {"participant_id": other, "site": "A", "age": "77"}])
    assert codes(looked_at(tmp_path, AGE), "a")["D18"]
    assert sorted(ages(tmp_path)) == ["b", "c"]


CELLS = {
    "-999": "D59",
    "-9999.0": "D59",
    "999": "D59",
    "9999": "D59",
    "-9": "D59",
    "-3": "D59",
    "131": "D59",
    "NA": "D16",
    ".": "D16",
    "#N/A": "D16",
    "missing": "D16",
    "34,5": "D16",
    "3_4": "D16",
    "99": "",
    "0": "",
}


@pytest.mark.parametrize("cell", CELLS)
def test_a_stand_in_for_a_missing_age_is_no_age(cell: str, tmp_path: Path) -> None:
    """The scan is left out with the reason; an age that may be true is kept.

    Source: Big-Life-Lab/cchsflow#131, weecology/PortalData#203, ropensci/stats19#104.
    """
    listed = rows(a="A", b="A", c="A")
    listed[0]["age"] = cell
    world(tmp_path, listed)
    code = CELLS[cell]
    assert codes(looked_at(tmp_path, AGE), "a") == ({code: True} if code else {})
    assert ("a" in ages(tmp_path)) == (not code)


@pytest.mark.parametrize(("value", "is_used"), [("999", True), ("-999", False), ("9999", False)])
def test_a_value_among_its_like_is_a_value(value: str, is_used: bool, tmp_path: Path) -> None:
    """A structure of 999 mm³ is real where others have 800 and 1200."""
    listed = [
        {**row, "volume_mm3": volume}
        for row, volume in zip(rows(a="A", b="A", c="A"), (value, "800", "1200"), strict=True)
    ]
    world(tmp_path, listed)
    table = looked_at(tmp_path, Regression("volume_mm3"))
    assert ("a" in {scan.subject for scan in table.scans}) is is_used


def sites_of(root: Path, **source: object) -> dict[str, int]:
    """Return the scans of each site."""
    found: dict[str, int] = {}
    for scan in looked_at(root, AGE, **source).scans:
        found[scan.site] = found.get(scan.site, 0) + 1
    return found


@pytest.mark.parametrize("word", ["unknown", "n/a", "N/A", "", "none", "-999", "?"])
def test_a_site_that_is_not_known_costs_its_own_scans(word: str, tmp_path: Path) -> None:
    """It is no hospital, and the others go on.

    Source: nipy/heudiconv#499 (empty cells in place of n/a).
    """
    world(tmp_path, rows(a="A", b="B", c=word, d="A", e="B"))
    table = looked_at(tmp_path, AGE)
    assert sites_of(tmp_path) == {"A": 2, "B": 2}
    assert codes(table, "c") == {"D06": True}
    enforce(table, CheckConfig(duplicates="warn"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Z\u00fcrich", "Zu\u0308rich"),
        ("1", "1.0"),
        ("site one", "site  one "),
        ("Guys", "Guys\u200b"),
        ("Guys", "\ufeffGuys"),
        ("St\u00a0John", "St John"),
    ],
)
def test_spellings_that_cannot_be_told_apart_are_one_site(
    one: str, other: str, tmp_path: Path
) -> None:
    """The two forms of an umlaut, or a space at the end, make no second hospital."""
    world(tmp_path, rows(a=one, b=other, c="C"))
    assert sorted(sites_of(tmp_path).values()) == [1, 2]
    assert "D72" in {finding.code for finding in looked_at(tmp_path, AGE).findings}


@pytest.mark.parametrize(
    ("one", "other"),
    [("site one", "Site One"), ("site-01", "site-1"), ("GE 3T", "GE_3T"), ("Koeln", "KOELN")],
)
def test_spellings_that_may_be_one_site_stay_two_and_are_said(
    one: str, other: str, tmp_path: Path
) -> None:
    """Their files never meet, not even on a disk that knows no case."""
    world(tmp_path, rows(a=one, b=other, c="C"))
    assert sites_of(tmp_path) == {one: 1, other: 1, "C": 1}
    assert "D71" in {finding.code for finding in looked_at(tmp_path, AGE).findings}
    assert file_name(one).casefold() != file_name(other).casefold()


@pytest.mark.parametrize("name", ["pooled", "Pooled", "external:Oslo"])
def test_a_site_called_as_fedmri_calls_something_keeps_its_own_name(
    name: str, tmp_path: Path
) -> None:
    """Its data are never taken for those of all sites, nor for a test set."""
    world(tmp_path, rows(a=name, b="B", c="B"))
    assert sites_of(tmp_path) == {f"site {name}": 1, "B": 2}


def test_a_column_of_sites_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The message lists the columns, and no federation of one is trained."""
    world(tmp_path)
    with pytest.raises(ConfigError, match=r"'hospital', want .*participant_id, site, age.*\[C01\]"):
        read(SourceConfig(path=str(tmp_path), site_column="hospital"))
    listed = [{"participant_id": f"sub-{s}", "centre": "A", "age": "40"} for s in "abc"]
    write_table(tmp_path, listed)
    scans = read(SourceConfig(path=str(tmp_path))).scans
    with pytest.raises(ConfigError, match=r"columns age, centre, participant_id.*\[C11\]"):
        partition(scans, AGE, PartitionConfig(), 0)


ENCODINGS = {
    "UTF-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Latin-1": lambda text: text.encode("latin-1"),
    "Windows line ends": lambda text: text.replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table_of_any_program_gives_the_same_sites(encoding: str, tmp_path: Path) -> None:
    """An umlaut survives spreadsheets of every age."""
    world(tmp_path, rows(a="Z\u00fcrich", b="B", c="B"))
    path = tmp_path / "participants.tsv"
    path.write_bytes(ENCODINGS[encoding](path.read_text(encoding="utf-8")))
    assert sites_of(tmp_path) == {"Z\u00fcrich": 1, "B": 2}

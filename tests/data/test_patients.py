"""Names that hide a visit: grouped where it is declared, reported where it is suspected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmri.data.batches.split import split_subjects
from fedmri.data.patients import crossing, grouped, patient_of, suspects
from fedmri.data.read import read
from fedmri.data.scans import Finding, Scan, ScanTable
from fedmri.data.settings import SourceConfig, SplitConfig
from fedmri.errors import ConfigError
from fedmri.tasks.kinds.classification import Classification

PATTERN = r"(MR\d+)[A-Z]?"


def scan(subject: str, session: str = "", site: str = "a") -> Scan:
    """Return a scan without files."""
    return Scan(site, subject, session, {})


@pytest.mark.parametrize(
    ("name", "patient"),
    [("MR024780B", "MR024780"), ("MR024780", "MR024780"), ("100360", "100360"), ("MR1BB", "MR1BB")],
)
def test_a_pattern_fits_a_whole_name_or_leaves_it(name: str, patient: str) -> None:
    """Group 1 is the patient; half a fit is none."""
    assert patient_of(name, PATTERN) == patient


def test_an_empty_group_names_nobody() -> None:
    """Else every subject whose name starts otherwise would be one patient without a name."""
    assert patient_of("B", r"(\d*)[A-Z]") == "B"


@pytest.mark.parametrize("pattern", ["MR\\d+", "(MR", "(" * 3, "*"])
def test_a_pattern_without_a_group_is_refused(pattern: str) -> None:
    """The setting is named, with what it wants."""
    with pytest.raises(ConfigError, match=r"source\.patient_pattern.*group 1.*\[C01\]"):
        SourceConfig(patient_pattern=pattern)


def test_scans_of_a_patient_keep_their_own_names_and_findings_follow() -> None:
    """Two visits with a scan of one name each are two scans of one patient."""
    left_out = Finding("D10", "constant", "a", "MR1B", "7")
    table = ScanTable((scan("MR1", "1"), scan("MR1B", "1"), scan("x", "1")), (left_out,))
    found = grouped(table, PATTERN)
    assert [s.subject for s in found.scans] == ["MR1", "MR1", "x"]
    assert len({s.key for s in found.scans}) == 3
    assert (found.findings[0].subject, found.findings[0].session) == ("MR1", "MR1B-7")
    assert found.findings[1].code == "C12"
    assert "3 names are 2 patients" in found.findings[1].reason
    assert not found.findings[1].is_excluded
    assert grouped(table, "") == table


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (("MR024780B", "MR024780D", "MR1"), [("MR024780B", "MR024780D")]),
        (("MR039473", "MR039473B", "MR2"), [("MR039473", "MR039473B")]),
        (("012-v1", "012-v2", "013-v1"), [("012-v1", "012-v2")]),
        (
            ("UPENN-GBM-00001_11", "UPENN-GBM-00001_21"),
            [("UPENN-GBM-00001_11", "UPENN-GBM-00001_21")],
        ),
        (
            ("BraTS-GLI-00005-100", "BraTS-GLI-00005-101"),
            [("BraTS-GLI-00005-100", "BraTS-GLI-00005-101")],
        ),
        (("OAS1_0061_MR1", "OAS1_0061_MR2", "OAS1_0001_MR1"), [("OAS1_0061_MR1", "OAS1_0061_MR2")]),
        (("p7baseline", "p7followup"), [("p7baseline", "p7followup")]),
        (("mr003a", "MR003B"), [("MR003B", "mr003a")]),
        (("7-A", "7-B"), [("7-A", "7-B")]),
        (("TCGAHTA61A", "TCGAHTA61B"), []),
        (("001", "002", "003"), []),
        (("TCGA-CS-4941", "TCGA-CS-4942"), []),
        (("IXI002-Guys-0828", "IXI012-HH-1211"), []),
        (tuple(f"site1_{i:03d}" for i in range(40)), []),
        (("control", "patient"), []),
    ],
    ids=lambda value: "" if isinstance(value, list) else value[0],
)
def test_visits_are_suspected_by_their_last_part(
    names: tuple[str, ...], groups: list[tuple[str, ...]]
) -> None:
    """A number that counts patients is no visit, and a name without a number has none."""
    assert list(suspects(names).values()) == groups


def test_a_group_that_is_taken_apart_is_said() -> None:
    """On two sides, or at two drawn sites; not where all of it trains at one."""
    scans = [scan(f"MR00{name}") for name in ("1A", "1B", "2A", "2B", "3A", "3B")]
    places = {
        "MR001A": ("site-1", "train"), "MR001B": ("site-1", "test"),
        "MR002A": ("site-1", "train"), "MR002B": ("site-2", "train"),
        "MR003A": ("site-1", "train"), "MR003B": ("site-1", "train"),
    }  # fmt: skip
    found = crossing(scans, places)  # type: ignore[arg-type]  # literals of a dict widen
    assert [f.subject for f in found] == ["MR001A", "MR002A"]
    assert {f.code for f in found} == {"C14"}
    assert "MR001A in train of site-1, MR001B in test of site-1" in found[0].reason


def test_visits_of_a_patient_are_on_one_side_of_the_split(tmp_path: Path) -> None:
    """Pictures under two suffixes: with the pattern no seed takes a patient apart."""
    rows = ["file\tpatient"]
    stream = np.random.default_rng(0)
    for patient in range(12):
        for visit in "BD":
            name = f"glioma/{patient}{visit}.png"
            (tmp_path / "glioma").mkdir(exist_ok=True)
            Image.fromarray(stream.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / name)
            rows.append(f"{name}\tMR{patient:03d}{visit}")
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n")
    plain = SourceConfig(path=str(tmp_path), site="x")
    one = SourceConfig(path=str(tmp_path), site="x", patient_pattern=PATTERN)
    target = Classification("class", ("glioma", "other"))

    def n_apart(source: SourceConfig, seed: int) -> int:
        scans = read(source).scans
        assert len(scans) == len({s.key for s in scans}) == 24
        splits = split_subjects(scans, target, SplitConfig(), seed)
        sides: dict[str, set[str]] = {}
        for s in scans:
            sides.setdefault(s.images["T1w"].stem[:-1], set()).add(splits[s.subject])
        return sum(len(side) > 1 for side in sides.values())

    assert sum(n_apart(plain, seed) for seed in range(5)) > 0
    assert sum(n_apart(one, seed) for seed in range(5)) == 0

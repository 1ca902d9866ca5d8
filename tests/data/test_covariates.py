"""Covariates: columns of the table that a network reads beside the image, from cell to batch."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedmri.data.batches.examples import open_site
from fedmri.data.batches.split import split_subjects
from fedmri.data.checks.check import examine
from fedmri.data.covariates import Covariate, entries_of, with_known
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import read_site, write_site
from fedmri.data.read import read
from fedmri.data.scans import Scan, ScanTable
from fedmri.data.settings import CheckConfig, DataConfig, PrepareConfig, SourceConfig, SplitConfig
from fedmri.errors import ConfigError
from fedmri.plan import Plan, from_json, to_json
from fedmri.tasks.kinds.classification import Classification
from tests.data.worlds import add_subject, write_table
from tests.made import model

DATA = os.environ.get("FEDMRI_TEST_DATA", "")
KIND = Classification("kind", ("a", "b"))
DECLARED = ("age:50/20", "sex:F|M")
ROWS = {
    "s0": ("A", "60", "F"),
    "s1": ("A", "-999", "M"),
    "s2": ("A", "n/a", "unknown"),
    "s3": ("A", "200", "X"),
    "s4": ("B", "30", "M"),
    "s5": ("B", "70", "F"),
}
ENTRIES = {
    "s0": (0.5, 0, 1, 0, 0),
    "s1": (0, 1, 0, 1, 0),
    "s2": (0, 1, 0, 0, 1),
    "s3": (0, 1, 0, 0, 1),
    "s4": (-1, 0, 0, 1, 0),
    "s5": (1, 0, 1, 0, 0),
}
"""By hand: age standardised and whether it is missing; female, male, neither."""


@pytest.fixture
def source(tmp_path: Path) -> SourceConfig:
    """Return six patients of two sites, whose tables say much that is no age and no sex."""
    for seed, name in enumerate(ROWS):
        add_subject(tmp_path, name, seed)
    rows = [
        {"participant_id": f"sub-{name}", "site": site, "age": age, "sex": sex, "kind": "ab"[i % 2]}
        for i, (name, (site, age, sex)) in enumerate(ROWS.items())
    ]
    write_table(tmp_path, rows)
    return SourceConfig(path=str(tmp_path), covariates=DECLARED)


def examined(source: SourceConfig) -> ScanTable:
    """Return what the data check makes of a source."""
    return examine(read(source), KIND, CheckConfig(), source.modalities, source.declared)


def test_what_is_not_known_is_counted_by_site_and_leaves_no_patient_out(
    source: SourceConfig,
) -> None:
    """Missing words, numbers that stand for them, impossible ages, levels nobody declared."""
    table = examined(source)
    assert [scan.subject for scan in table.scans] == list(ROWS)
    told = {(f.site, f.reason.partition(",")[0]) for f in table.findings if f.code == "D79"}
    assert told == {
        ("A", "age is not known of 3 of 4 scans"),
        ("A", "sex is not known of 2 of 4 scans"),
    }
    assert not any(finding.is_excluded for finding in table.findings)


def test_a_site_is_judged_by_its_own_rows() -> None:
    """999 days are a stand-in beside 40 and 60, and a value beside 900 and 1100: as deployed."""
    rows = [("A", "40"), ("A", "60"), ("A", "999"), ("B", "900"), ("B", "1100"), ("B", "999")]
    scans = [
        Scan(site, f"s{i}", "", {"T1w": Path("x.nii")}, columns={"days": text})
        for i, (site, text) in enumerate(rows)
    ]
    known, findings = with_known(scans, [Covariate("days")])
    assert [scan.columns["days"] for scan in known] == ["40", "60", "", "900", "1100", "999"]
    assert [finding.site for finding in findings] == ["A"]


def test_a_column_that_a_hospital_lacks_is_missing_for_all_of_it(source: SourceConfig) -> None:
    """The hospital still takes part; its check says so."""
    lacking = replace(source, covariates=("weight:70/15",))
    table = examined(lacking)
    assert len(table.scans) == len(ROWS)
    reasons = [finding.reason for finding in table.findings if finding.code == "D79"]
    assert len(reasons) == 2
    assert "no column 'weight' among" in reasons[0]


def test_batches_hold_each_patients_numbers(source: SourceConfig, tmp_path: Path) -> None:
    """Through the cache and the site's file; other covariates are other data."""
    config = DataConfig(source, split=SplitConfig(0, 0), prepare=PrepareConfig(shape=(8, 8, 8)))
    scans = examined(source).scans
    splits = split_subjects(scans, KIND, config.split, 0)

    def file(config: DataConfig) -> Path:
        path = tmp_path / f"{'-'.join(config.source.covariates).replace('/', '')}.json"
        write_site(path, prepare_scans(scans, KIND, config, splits, tmp_path / "cache"))
        return path

    site = open_site([file(config)], KIND, config)
    found: dict[str, list[float]] = {}
    for batch in site.train_batches(batch_size=4, seed=0):
        assert batch.covariates is not None
        assert batch.covariates.dtype == torch.float32
        found |= dict(zip(batch.subjects, batch.covariates.tolist(), strict=True))
    assert {name.rpartition("/")[2]: tuple(row) for name, row in found.items()} == ENTRIES
    plain = replace(config, source=replace(source, covariates=()))
    fingerprints = {read_site(file(one)).fingerprint for one in (config, plain)}
    assert len(fingerprints) == 2
    [batch] = open_site([file(plain)], KIND, plain).train_batches(batch_size=6, seed=0)
    assert batch.covariates is None


@pytest.mark.parametrize(
    "text", ["age", "age:50", "age:x/20", "age:50/0", ":50/20", "sex:F|F", "sex:F|", "age:1/2/3"]
)
def test_what_declares_no_covariate_is_refused(text: str) -> None:
    """The message shows both forms."""
    with pytest.raises(ConfigError, match=r"COLUMN:CENTRE/SCALE.*COLUMN:LEVEL\|LEVEL.*\[C01\]"):
        SourceConfig(covariates=(text,))


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("cnn5", {"covariates": DECLARED}, r"cnn5, which looks at images alone.*\[C03\]"),
        ("image_table_fusion", {}, r"found none, want columns of the table.*\[C03\]"),
        ("image_table_fusion", {"covariates": ("kind:a|b",)}, r"kind, which is predicted.*\[C03\]"),
        ("image_table_fusion", {"mixup": 0.5, "covariates": DECLARED}, r"are not mixed.*\[C03\]"),
    ],
)
def test_what_does_not_go_together_is_refused(
    name: str, settings: dict[str, object], match: str
) -> None:
    """A model that ignores covariates, one without, the answer as an input, rows that would mix."""
    data = DataConfig(SourceConfig(covariates=settings.get("covariates", ())))  # type: ignore[arg-type]
    data = replace(data, augment=replace(data.augment, mixup=settings.get("mixup", 0.0)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=match):
        Plan(KIND, data=data, model=model(name))


def test_a_plan_with_covariates_travels() -> None:
    """As JSON and back, with the size of the network's second input."""
    plan = Plan(
        KIND, data=DataConfig(SourceConfig(covariates=DECLARED)), model=model("image_table_fusion")
    )
    assert from_json(to_json(plan)) == plan
    assert plan.network["n_covariates"] == len(ENTRIES["s0"])


@pytest.mark.skipif(not DATA, reason="FEDMRI_TEST_DATA names no folder of real data")
@pytest.mark.parametrize(
    ("name", "declared"),
    [("ixi-hh-bids", ("age:50/20", "sex:F|M")), ("lgg-bids", ("age:50/20", "sex_code:1|2"))],
)
def test_gaps_of_real_tables_are_told(name: str, declared: tuple[str, ...]) -> None:
    """Both hospitals' tables have patients of unknown age or sex, who stay, each counted once."""
    source = SourceConfig(path=f"{DATA}/{name}", covariates=declared)
    scans = read(replace(source, modalities=("T1w", "FLAIR"))).scans
    rows = [entries_of(source.declared, scan) for scan in with_known(scans, source.declared)[0]]
    with (Path(DATA) / name / "participants.tsv").open() as file:
        table = {row["participant_id"]: row for row in csv.DictReader(file, delimiter="\t")}
    first, *levels = source.declared[1].levels
    column = source.declared[1].name
    for scan, (age, is_no_age, is_first, *others, is_no_level) in zip(scans, rows, strict=True):
        cells = table[f"sub-{scan.subject.removeprefix('sub-')}"]
        assert is_no_age == (cells["age"] == "n/a")
        assert is_no_age or age == pytest.approx((float(cells["age"]) - 50) / 20)
        assert [is_first, *others] == [cells[column] == level for level in (first, *levels)]
        assert is_no_level == (cells[column] == "n/a")
    assert any(row[-1] or row[1] for row in rows)

"""Visits of a patient as one example: from dated sessions on disk to a trained model."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fedmri
from fedmri.clients.process.home import SiteConfig
from fedmri.clients.training.own_data import prepare_own
from fedmri.config import load
from fedmri.data.batches.examples import open_site
from fedmri.data.batches.site_data import Split
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import read_site, write_site
from fedmri.data.read import read
from fedmri.data.settings import DataConfig, PrepareConfig, SourceConfig
from fedmri.errors import ConfigError
from fedmri.plan import Plan
from fedmri.simulation.partition import PartitionConfig
from fedmri.simulation.sites import SiteSource, prepare_sites
from fedmri.tasks.kinds.classification import Classification
from tests.data.worlds import AFFINE, save, volume, write_table
from tests.made import model

KIND = Classification("kind", ("a", "b"))
SHAPE = (16, 16, 16)
TWO = SourceConfig(visits=2)
SETTINGS = (
    *(
        "target=classification",
        "data.source.modalities=[T1w]",
        "target.name=kind",
        "target.classes=[a,b]",
        "model=visit_rnn",
    ),
    *("model.width=4", "model.hidden_width=8", "data.source.visits=2", "data.prepare.spacing_mm=0"),
    *("data.prepare.shape=[16,16,16]", "data.check.max_excluded=0.5", "rounds.n_rounds=1"),
    *("simulation.arms=[federated]", "simulation.workers=1", "simulation.n_pictures=0"),
    *("train.device=cpu", "train.n_threads=1"),
)


def add_visits(root: Path, subject: str, seed: int, times: dict[str, str]) -> None:
    """Write a session for each time; every head lies elsewhere, on a grid of its own."""
    folder = root / f"sub-{subject}"
    for i, session in enumerate(times):
        path = folder / f"ses-{session}" / "anat" / f"sub-{subject}_ses-{session}_T1w.nii.gz"
        affine = AFFINE.copy()
        affine[:3, 3] = 40 * i
        save(path, volume(100 * seed + i, (16, 16, 16 + i)), affine)
    rows = ["session_id\tacq_time", *(f"ses-{name}\t{time}" for name, time in times.items())]
    (folder / f"sub-{subject}_sessions.tsv").write_text("\n".join([*rows, ""]))


def world(root: Path, patients: dict[str, dict[str, str]]) -> Path:
    """Write patients, in turn of sites A and B and of kinds a and b."""
    for seed, (name, times) in enumerate(patients.items()):
        add_visits(root, name, seed, times)
    rows = [
        {"participant_id": f"sub-{name}", "site": "AB"[i % 2], "kind": "ab"[i // 2 % 2]}
        for i, name in enumerate(patients)
    ]
    write_table(root, rows)
    return root


def test_the_last_visits_stand_in_order_of_time(tmp_path: Path) -> None:
    """Whatever sessions are called; dates and days give the same years; one visit needs no time."""
    world(
        tmp_path,
        {
            "dates": {"z": "1850-01-01T10:30:00", "m": "1860-01-01", "a": "1861-01-01T00:00:00Z"},
            "days": {"1": "10.5", "2": "376.5"},
            "once": {"1": "n/a"},
        },
    )
    found = {scan.subject: scan for scan in read(replace(TWO, path=str(tmp_path))).scans}
    assert [scan.session for scan in found.values()] == ["a", "1", "2"]  # A: dates, once; B: days
    names = {who: [path.name for path in scan.images.values()] for who, scan in found.items()}
    assert names["dates"] == ["sub-dates_ses-m_T1w.nii.gz", "sub-dates_ses-a_T1w.nii.gz"]
    assert names["days"] == ["sub-days_ses-1_T1w.nii.gz", "sub-days_ses-2_T1w.nii.gz"]
    assert list(found["once"].images) == ["T1w of visit 2"]
    years = {who: [scan.columns[name] for name in TWO.intervals] for who, scan in found.items()}
    assert years == {
        "dates": ["0.0000", "1.0021"],  # 366 days
        "days": ["0.0000", "1.0021"],
        "once": ["", "0.0000"],
    }


def test_a_visit_without_a_place_is_left_out_by_name(tmp_path: Path) -> None:
    """The others of the patient stay; dates beside numbers are not compared."""
    patients = {
        "gap": {"1": "2001-05-01", "2": "n/a", "3": "2003-05-01"},
        "mixed": {"1": "2001-05-01", "2": "30"},
    }
    table = read(replace(TWO, path=str(world(tmp_path, patients))))
    told = {(f.subject, f.session): f.reason for f in table.findings if f.code == "D90"}
    assert set(told) == {("gap", "2"), ("mixed", "1"), ("mixed", "2")}
    assert told["gap", "2"] == (
        "acq_time is missing, no date and no number: the visit has no place among 3"
    )
    assert [(scan.subject, scan.session) for scan in table.scans] == [("gap", "3")]
    assert table.n_found == {"A": 2, "B": 2}


def test_each_visit_is_prepared_as_if_it_were_alone(tmp_path: Path) -> None:
    """Whatever grid others have; a missing visit is zero and told to be; years reach a batch."""
    root = world(
        tmp_path / "bids", {"two": {"1": "0", "2": "731"}, "x": {"1": "1"}, "once": {"1": "1"}}
    )
    prepare = PrepareConfig(shape=SHAPE)
    both, single = (
        DataConfig(replace(one, path=str(root)), prepare=prepare) for one in (TWO, SourceConfig())
    )
    sides: dict[str, Split] = dict.fromkeys(("two", "x", "once"), "train")
    stacked, alone = (
        prepare_scans(read(one.source).scans, KIND, one, sides, tmp_path) for one in (both, single)
    )
    whole = {scan.subject: np.load(scan.image) for scan in stacked.scans}
    visits = {scan.scan: np.load(scan.image) for scan in alone.scans}
    assert np.array_equal(whole["two"], np.concatenate([visits["two_1"], visits["two_2"]]))
    assert np.array_equal(whole["once"], np.concatenate([0 * visits["once_1"], visits["once_1"]]))
    write_site(tmp_path / "site.json", stacked)
    site = open_site([tmp_path / "site.json"], KIND, both)
    [batch] = site.eval_batches("train", batch_size=3)
    rows = {who.rpartition("/")[2]: i for i, who in enumerate(batch.subjects)}
    assert batch.covariates is not None
    assert batch.covariates[rows["two"]].tolist() == pytest.approx(
        [0, 0, 731 / 365.25, 0], abs=1e-4
    )
    assert batch.covariates[rows["once"]].tolist() == [0, 1, 0, 0]
    assert batch.present[rows["once"]].tolist() == [False, True]


def test_a_hospital_trains_on_the_visits_of_its_simulation_and_predicts(tmp_path: Path) -> None:
    """One fingerprint; the answer of a new patient depends on how long the visits lie apart."""
    patients = {f"p{i}": {"1": "2001-01-01", "2": f"{2001 + i}-03-01"} for i in range(12)}
    data = world(tmp_path / "bids", patients)
    places = [f"data.source.path={data}", f"simulation.cache={tmp_path / 'cache'}"]
    plan = load([*SETTINGS, *places]).plan
    source = SiteSource(plan, PartitionConfig(), "", False, tmp_path / "cache")
    simulated = prepare_sites(source, tmp_path)
    assert "D57" not in (tmp_path / "manifest.tsv").read_text()  # heads of two visits lie apart
    own = SiteConfig(data=SourceConfig(path=str(data), sites=("A",), visit_time="acq_time"))
    path = prepare_own(own, plan, "A", tmp_path / "other", tmp_path / "plan")
    assert read_site(path).fingerprint == simulated.fingerprints["A"]

    runs = f"simulation.runs={tmp_path / 'runs'}"
    result = fedmri.Study(data, settings=[*SETTINGS, places[1], runs]).run()
    trained = result.model()
    answers = []
    for name, last in (("near", "2001-02-01"), ("far", "2041-02-01")):
        new = world(tmp_path / name, {"new": {"1": "2001-01-01", "2": last}})
        [one] = trained.predict(new)
        assert one.reading is not None
        answers.append(one.reading.predictions[0])
    assert answers[0] != answers[1]
    with (tmp_path / "far" / "participants.tsv").open() as file:
        assert len(list(csv.DictReader(file, delimiter="\t"))) == 1  # two sessions, one answer


@pytest.mark.parametrize(
    ("name", "visits", "prepare", "match"),
    [
        ("visit_rnn", 1, PrepareConfig(shape=SHAPE), r"found 1, want several visits.*\[C03\]"),
        ("cnn5", 2, PrepareConfig(shape=SHAPE), r"cnn5, which looks at images alone.*\[C03\]"),
        ("visit_rnn", 2, PrepareConfig(), r"want volumes of one size.*\[C03\]"),
        ("visit_rnn", 2, PrepareConfig("2d", size=(16, 16)), r"want volumes of one.*\[C03\]"),
    ],
)
def test_what_does_not_go_with_visits_is_refused(
    name: str, visits: int, prepare: PrepareConfig, match: str
) -> None:
    """A model without visits, one that ignores time, volumes whose size nobody knows, slices."""
    with pytest.raises(ConfigError, match=match):
        Plan(KIND, data=DataConfig(SourceConfig(visits=visits), prepare=prepare), model=model(name))

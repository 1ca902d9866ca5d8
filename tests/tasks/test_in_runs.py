"""Both new tasks from files to a report: worker processes, prediction, scores, consent, Python."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import fedmri
from fedmri.agreement.signed_plan import sign_plan
from fedmri.api.study import Study
from fedmri.clients.consent.plan_text import describe
from fedmri.clients.consent.policy import SitePolicy
from fedmri.clients.egress.border import declared_scores
from fedmri.config import load
from fedmri.plan import Plan, from_json, to_json
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.tasks.registry import TASKS
from tests.test_signed_plan import key_pair

LABELS = fedmri.MultiLabel("findings", ["mass", "old"])
LISTED = fedmri.MultiLabel("findings", ["mass", "old"], separator=";")
SURVIVAL = fedmri.Survival("months", "died", [6, 12, 24])
TINY = (
    "experiment=smoke",
    "data.prepare.shape=[16,16,16]",
    "data.prepare.spacing_mm=12",
    "model.width=4",
    "rounds.n_rounds=1",
    "data.split.test=0.45",
    "simulation.n_pictures=1",
    "simulation.arms=[federated]",
)

Run = Callable[..., fedmri.StudyResult]


@pytest.fixture(scope="module")
def run(followed: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs a tiny study of a task."""

    def study(target: fedmri.Task, *settings: str) -> fedmri.StudyResult:
        place = tmp_path_factory.mktemp("runs")
        own = [f"simulation.cache={cache}", f"simulation.runs={place}", "simulation.workers=1"]
        return Study(followed, target=target, settings=[*TINY, *own, *settings]).run(print)

    return study


@pytest.fixture(scope="module")
def labels(run: Run) -> fedmri.StudyResult:
    """Return the result of a multi-label study."""
    return run(LABELS)


@pytest.fixture(scope="module")
def survival(run: Run) -> fedmri.StudyResult:
    """Return the result of a survival study."""
    return run(SURVIVAL)


def model_of(result: fedmri.StudyResult) -> str:
    """Return the hash of the federated model."""
    [file] = result.folder.glob("arms/federated/seed-0/model.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(("kind", "metric"), [("labels", "label_brier"), ("survival", "nll")])
def test_a_study_ends_with_scores_and_baselines(
    kind: str, metric: str, request: pytest.FixtureRequest
) -> None:
    """The federation, the guess without an image and the linear model have scores with ends."""
    result: fedmri.StudyResult = request.getfixturevalue(kind)
    table = result.table().query("metric == @metric").set_index("model")
    assert {"federated", "baseline", "linear"} <= set(table.index)
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    assert {"labels": "Mean AUC of findings", "survival": "Concordance"}[kind] in page


def test_no_unknown_finding_becomes_a_no(labels: fedmri.StudyResult, followed: Path) -> None:
    """The truths of the tested patients are those of the table, gaps and all."""
    with (followed / "participants.tsv").open() as file:
        rows = {r["participant_id"]: r for r in csv.DictReader(file, delimiter="\t")}
    results = load_results(labels.folder)
    tested = [c for site in results.cases["federated", 0].values() for c in site]
    meaning = {"n/a": None, "1": 1.0, "0": 0.0, "yes": 1.0, "no": 0.0}
    for case in tested:
        row = rows[f"sub-{case.subject.removeprefix('sub-')}"]
        wanted = [meaning[row[name]] for name in LABELS.classes]
        assert isinstance(case.truth, tuple)
        assert [None if t != t else t for t in case.truth] == wanted  # NaN
    findings = {f.code for f in results.findings}
    assert "D78" in findings


@pytest.mark.parametrize(
    ("kind", "target"),
    [pytest.param("labels", LABELS, marks=pytest.mark.slow), ("survival", SURVIVAL)],
)
def test_worker_processes_give_the_same_bits(
    kind: str, target: fedmri.Task, run: Run, request: pytest.FixtureRequest
) -> None:
    """One code path, for tasks too."""
    alone: fedmri.StudyResult = request.getfixturevalue(kind)
    assert model_of(alone) == model_of(run(target, "simulation.workers=2"))


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("labels", {"findings", "probability_mass", "probability_old"}),
        ("survival", {"months_expected", "free_at_6_months", "free_at_24_months"}),
    ],
)
def test_a_model_predicts_a_table_and_is_scored(
    kind: str,
    columns: set[str],
    followed: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """From its one file; no answer is read for a prediction."""
    result: fedmri.StudyResult = request.getfixturevalue(kind)
    model = fedmri.TrainedModel.open(
        result.folder / "arms" / "federated" / "seed-0" / "model.safetensors"
    )
    scans = [str(path) for path in sorted(followed.glob("sub-010*/anat/*T1w.nii.gz"))[:3]]
    found = model.predict(*scans, out=tmp_path / "out")
    assert len(found) == 3
    with (tmp_path / "out" / "predictions.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert columns <= rows[0].keys()
    shares = [
        float(row[name]) for row in rows for name in columns if "prob" in name or "free" in name
    ]
    assert all(0 <= share <= 1 for share in shares)
    said = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert columns <= said.keys()
    scored = model.score(followed).summary.rows[0].overall
    assert scored[model.card.plan.target.primary].n_subjects > 10


@pytest.mark.parametrize("target", [LABELS, SURVIVAL], ids=["labels", "survival"])
def test_a_hospital_reads_what_is_learned_and_no_patients_score_leaves(
    target: fedmri.Task,
) -> None:
    """Column names are on the page; what may leave are means over patients."""
    plan = Plan(target)
    assert from_json(to_json(plan)) == plan
    key, _ = key_pair(1)
    text = describe(sign_plan(plan, key), SitePolicy())
    assert all(name in text for name in (target.title, *target.columns))
    names = declared_scores(plan).metrics
    assert set(target.metrics(())) <= names
    assert "expected" not in names


def test_settings_and_python_make_the_same_task() -> None:
    """A task of a notebook is that of its settings."""
    texts = ["target.kind=survival", "target.name=months", "target.event=died"]
    found = load([*TINY, *texts, "target.cuts=[6,12,24]"]).plan.target
    assert found == SURVIVAL
    assert TASKS.made(TASKS.as_dict(LISTED)) == LISTED


def test_a_summary_of_one_patient_a_site_has_no_interval(survival: fedmri.StudyResult) -> None:
    """A pair is needed for an order."""
    summary = summarise(load_results(survival.folder), SURVIVAL, n_bootstrap=100)
    for row in summary.rows:
        for of_site in row.by_site.values():
            one = of_site["concordance"]
            assert one.n_subjects > 1 or not one.has_interval

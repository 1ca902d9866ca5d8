"""Scores of a file are those of its run: to the bit, for each patient, with the same intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmri.api.result import StudyResult
from fedmri.errors import UsageError
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.tasks.task import Case
from fedmri.trained.describe import describe
from fedmri.trained.file.names import MODEL
from fedmri.trained.file.run_folder import put_scores
from fedmri.trained.model import TrainedModel
from fedmri.trained.predict import refuse_incomplete
from fedmri.trained.scoring import Scored, ScoreOptions
from tests.trained.conftest import Run, Train

SITES = "partition.n_sites=2"
REST = "simulation.is_rest_external=true"


def run_cases(run: Run) -> dict[str, tuple[Case, ...]]:
    """Return the run's own results of each patient, by site as the data set names it."""
    cases = load_cases(run.folder)
    return {site.removeprefix("external:"): found for site, found in cases.items()}


def load_cases(folder: Path) -> dict[str, tuple[Case, ...]]:
    """Return the cases of the federated arm as they were written."""
    found: dict[str, tuple[Case, ...]] = {}
    for path in sorted((folder / "cases/federated/seed-0").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        cases = tuple(Case(**{**row, "prediction": tuple(row["prediction"])}) for row in rows)
        if cases:
            found[cases[0].site] = cases
    return found


def scored(run: Run, data: Path, cache: Path, sites: tuple[str, ...] = ()) -> Scored:
    """Score a run's model on its own test patients, or on those of some sites."""
    patients = [
        case.subject
        for site, cases in run_cases(run).items()
        for case in cases
        if not sites or site in sites
    ]
    return run.model.score(data, ScoreOptions(patients=patients, cache=cache))


SCALED = ("kind", "harmonize=zscore", "data.prepare.scaling=none")


@pytest.mark.parametrize(
    "settings", [("mask",), ("nyul",), ("slices",), ("kind",), ("age",), SCALED], ids=" ".join
)
def test_test_scores_of_a_run_are_those_of_its_file(
    train: Train, hospitals: Path, cache: Path, settings: tuple[str, ...]
) -> None:
    """Every patient's result, every site's interval: equal to the bit, harmonized or not."""
    run = train(*settings)
    found = scored(run, hospitals, cache)
    assert repr(dict(found.cases)) == repr(run_cases(run))  # NaN, as text, equals itself
    task = run.model.card.plan.target
    put_scores_of(run)
    mine, theirs = found.summary.rows[0], summarise(load_results(run.folder), task).rows[0]
    assert repr(mine.by_site) == repr(theirs.by_site)
    assert repr(mine.overall) == repr(theirs.overall)
    card = run.model.card.scores
    for metric, estimate in mine.overall.items():
        if metric in card:
            assert (card[metric].value, card[metric].n_patients) == (
                estimate.value,
                estimate.n_subjects,
            )
            assert card[metric].low == (estimate.low if estimate.has_interval else None)


def put_scores_of(run: Run) -> None:
    """Put a run's scores into its file, as the end of a simulation does; weights stay."""
    card = run.model.card
    put_scores(run.folder, card.plan.target)
    again = TrainedModel.open(run.path).card
    assert again.sha256 == card.sha256
    assert again.scores


@pytest.mark.parametrize("name", ["fedbn", "combat", "kind"])
def test_an_external_site_is_scored_as_a_simulation_scores_it(
    train: Train, hospitals: Path, cache: Path, name: str
) -> None:
    """Batch norm and embeddings are adapted to the very images, and the result says so."""
    run = train(name, SITES, REST)
    [external] = [site for site in load_cases(run.folder) if site.startswith("external:")]
    site = external.removeprefix("external:")
    found = scored(run, hospitals, cache, (site,))
    wanted = [
        (case.subject, case.prediction, case.scores) for case in load_cases(run.folder)[external]
    ]
    assert [(c.subject, c.prediction, c.scores) for c in found.cases[site]] == wanted
    is_adapted = name != "kind"
    assert found.adapted == ((site,) if is_adapted else ())
    assert any("Transductive" in note for note in found.summary.notes) == is_adapted
    results = load_results(run.folder)
    task = run.model.card.plan.target
    [theirs] = [row for row in summarise(results, task).rows if row.label == "federated"]
    assert repr(found.summary.rows[0].by_site[site]) == repr(theirs.by_site[external])


def test_a_model_without_its_head_is_not_scored(train: Train, hospitals: Path) -> None:
    """Layers that each site trained for itself cannot be adapted."""
    with pytest.raises(UsageError, match=r"\[U72\]"):
        train("fedper").model.score(hospitals)


@pytest.mark.parametrize("name", ["fedbn", "fedper", "ditto"])
def test_a_sites_own_model_is_the_one_that_was_tested_there(
    train: Train, hospitals: Path, cache: Path, name: str
) -> None:
    """Whole in one file, it gives the site's own test patients to the bit, and predicts."""
    run = train(name)
    shared = run.model.card
    assert ("scores" in describe(shared)) == (name == "ditto")
    for site, cases in run_cases(run).items():
        own = StudyResult(run.folder).model(site=site)
        assert (own.card.role, own.card.entries.at_sites) == ("personal", ())
        assert own.card.sha256 != shared.sha256
        patients = ScoreOptions(patients=[case.subject for case in cases], cache=cache)
        assert repr(own.score(hospitals, patients).cases[site]) == repr(cases)
        assert "scores" not in describe(own.card)
    refuse_incomplete(own.file)


def test_a_model_that_all_sites_share_is_written_once(train: Train) -> None:
    """No site of FedAvg keeps a copy that it would have to guard."""
    assert not list((train("kind").folder / "sites").rglob(MODEL))


def test_patients_who_are_not_there_are_asked_about(train: Train, hospitals: Path) -> None:
    """A list of names of another data set scores nobody."""
    with pytest.raises(UsageError, match=r"none of 1.*\[U74\]"):
        train("kind").model.score(hospitals, ScoreOptions(patients=["nobody"]))

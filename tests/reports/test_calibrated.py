"""Temperatures and limits come from validation patients, and are judged on test patients."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmri.clients.training.results import read_cases, remove_subjects
from fedmri.evaluate.reliability.calibration import temperature
from fedmri.reports.pages.page import write_report
from fedmri.reports.reliability.coverage import Coverage
from fedmri.reports.results import load_results
from fedmri.reports.summary import Summary, summarise
from fedmri.reports.text.calibrated import coverage_rows, temperature_rows
from fedmri.tasks.task import Task
from tests.reports.conftest import Predict, WriteRun


def says(share: dict[str, float], n_right: int = 3) -> Predict:
    """Return a model that is right in ``n_right`` of 4 patients, with a probability by site."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        truth, is_right = i % 2, i % 4 < n_right
        of_one = share[site] if truth == is_right else 1 - share[site]
        scores = {"predicted": float(of_one > 0.5), "is_correct": float(is_right)}
        return {"truth": float(truth), "prediction": [1 - of_one, of_one], "scores": scores}

    return predict


def summary_of(run: Path, task: Task) -> Summary:
    """Return all numbers of a run folder."""
    return summarise(load_results(run), task, n_bootstrap=100)


def test_a_temperature_of_validation_patients_mends_probabilities_that_are_too_sure(
    write_run: WriteRun, classification: Task
) -> None:
    """By hand: at .99 and 3 of 4 right, T = logit(.99) / logit(.75); at .75 it is 1."""
    said = says({"A": 0.99, "B": 0.75})
    run = write_run({"A": 80, "B": 80}, said, validation=said)
    plain, common, own = summary_of(run, classification).temperatures
    wanted = np.log(0.99 / 0.01) / np.log(3)
    assert (own.lowest, own.highest) == pytest.approx((1, wanted), rel=1e-4)
    assert own.ece == pytest.approx(0, abs=1e-4)
    assert own.brier == pytest.approx(2 * (0.75 * 0.25**2 + 0.25 * 0.75**2), abs=1e-4)
    logits = np.log([[0.25, 0.75], [0.01, 0.99]])
    pooled = temperature([(logits[[1] * 4 + [0] * 4], np.array([1, 1, 1, 0] * 2))])
    assert common.lowest == common.highest == pytest.approx(pooled, rel=1e-4)
    assert own.brier < common.brier < plain.brier
    assert plain.ece == pytest.approx(0.12, abs=1e-6)  # half of them .24 too sure
    assert own.gained is not None
    assert own.gained.high < 0
    assert (plain.n_own, own.n_own, own.n_validation) == (0, 2, 160)
    page = write_report(run, classification)[0].read_text()
    assert "Probabilities at another temperature, fitted on validation patients" in page


def test_test_patients_have_no_say_in_a_temperature(
    write_run: WriteRun, classification: Task
) -> None:
    """Where all test patients are called wrongly, the temperature is that of validation."""
    said = says({"A": 0.9, "B": 0.9})
    run = write_run({"A": 20, "B": 20}, says({"A": 0.9, "B": 0.9}, n_right=0), validation=said)
    _, common, _ = summary_of(run, classification).temperatures
    assert common.highest == pytest.approx(np.log(9) / np.log(3), rel=1e-4)


@pytest.mark.parametrize("n_right", [0, 4])
def test_no_temperature_is_made_up(write_run: WriteRun, classification: Task, n_right: int) -> None:
    """Where all validation patients are called right, or wrong, none fits best."""
    said = says({"A": 0.9, "B": 0.9})
    run = write_run({"A": 20, "B": 20}, said, validation=says({"A": 0.9, "B": 0.9}, n_right))
    assert summary_of(run, classification).temperatures == ()


def test_few_validation_patients_or_none_judge_nothing(
    write_run: WriteRun, classification: Task
) -> None:
    """A site of 8 takes the temperature for all; a run that kept none has no table."""
    said = says({"A": 0.99, "B": 0.75})
    run = write_run({"A": 40, "B": 8}, said, validation=said)
    *_, own = summary_of(run, classification).temperatures
    assert own.n_own == 1
    assert temperature_rows([own])[1][0][-1] == "1"
    for path in run.glob("validation/*/*/*.jsonl"):
        path.unlink()
    found = summary_of(run, classification)
    assert (found.temperatures, found.coverages) == ((), ())


def off_by(spread: dict[str, float], seed: int) -> Predict:
    """Return a model of ages with errors of a standard deviation by site."""

    def predict(arm: str, _: int, site: str, i: int) -> dict[str, Any]:
        error = spread[site] * np.random.default_rng([seed, i, len(site)]).normal()
        scores = {"absolute_error": abs(error)}
        return {"truth": 50.0 + i % 7, "prediction": [50.0 + i % 7 + error], "scores": scores}

    return predict


def test_one_limit_may_hold_over_all_and_fail_at_one_site(
    write_run: WriteRun, regression: Task
) -> None:
    """Errors of BB are four times those of A and CCC: limits of its own mend what one breaks."""
    spread = {"A": 1.0, "BB": 4.0, "CCC": 1.0}
    sizes = dict.fromkeys(spread, 150)
    run = write_run(sizes, off_by(spread, 1), validation=off_by(spread, 2))
    found = {one.site: one for one in summary_of(run, regression).coverages}
    assert set(found) == {"", *spread}
    assert found[""].common.low < 0.9 < found[""].common.high
    assert found["BB"].common.high < 0.9
    assert found["BB"].own.low < 0.9 < found["BB"].own.high
    assert found["A"].common.value > found["A"].own.value
    assert found["A"].own_size < found["A"].common_size < found["BB"].own_size
    shown = {row[0]: row[-1] for row in coverage_rows(list(found.values()))[1]}
    assert shown["federated: BB"] == "broken"
    assert shown["federated: A"] == "kept"
    assert shown["federated: all sites"] == "not contradicted"
    page = write_report(run, regression)[0].read_text()
    assert "conformal set or interval that promises 90 %, by site" in page


def test_a_site_of_eight_has_no_limit_of_its_own(write_run: WriteRun, regression: Task) -> None:
    """Nine patients are the least for nine in ten; the site has the limit for all."""
    spread = {"A": 1.0, "BB": 1.0}
    run = write_run({"A": 9, "BB": 8}, off_by(spread, 1), validation=off_by(spread, 2))
    found: dict[str, Coverage] = {one.site: one for one in summary_of(run, regression).coverages}
    assert (found["A"].is_own, found["BB"].is_own) == (True, False)
    assert found["BB"].own_size == found["BB"].common_size
    assert (found["BB"].n_validation, found["BB"].common.n_subjects) == (8, 8)


def test_sets_hold_the_class_as_often_as_they_promise(
    write_run: WriteRun, classification: Task
) -> None:
    """Right in 3 of 4 at .75: nine in ten needs both classes in each set."""
    said = says({"A": 0.75, "B": 0.75})
    run = write_run({"A": 40, "B": 40}, said, validation=said)
    one = summary_of(run, classification).coverages[0]
    assert (one.common.value, one.common_size, one.is_of_classes) == (1.0, 2.0, True)


def test_a_run_keeps_what_the_final_model_says_of_validation_patients(
    run_tiny: Callable[..., Path],
) -> None:
    """At each site and for no test patient; nothing of it is in the records."""
    more = ("data.split.val=0.4", "rounds.n_rounds=1", "rounds.evaluate_every=0")
    folder = run_tiny("kept", *more, "simulation.arms=[federated]")
    used = json.loads((folder / "used.json").read_text())
    results = load_results(folder)
    [key] = results.validated
    assert key == ("federated", 0)
    for site, cases in results.validated[key].items():
        assert len(cases) == used[site]["val"]
        assert not {c.subject for c in cases} & {c.subject for c in results.cases[key][site]}
    assert not list(results.of_kind("validation"))
    [own] = (folder / "sites").glob("*1/federated/seed-0")
    gone = read_cases(own / "validation.jsonl")[0].subject
    remove_subjects(own, {gone})
    assert gone not in {case.subject for case in read_cases(own / "validation.jsonl")}

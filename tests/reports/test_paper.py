"""What a paper needs of a run: verdicts in sentences, worth by hospital, figures as files."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmri.errors import UsageError
from fedmri.reports.between import beside
from fedmri.reports.pages.page import write_report
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.reports.text.verdicts import five_sentences
from fedmri.tasks.task import Task
from tests.reports.conftest import write_run as written

WriteRun = Callable[..., Path]


def dice_of(levels: dict[str, float]) -> Callable[..., dict[str, Any]]:
    """Return models that score as told by arm, with the noise of the patient."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        noise = np.random.default_rng([i, len(site), len(arm)]).normal(0, 0.01)
        return {"scores": {"dice": levels[arm] + noise}}

    return predict


def test_a_hospital_whose_own_model_is_worse_and_one_whose_own_is_better(
    write_run: WriteRun, segmentation: Task
) -> None:
    """The federated model scores .8: joining is worth it at A (.6 alone), and not at B (.9)."""
    levels = {"federated": 0.8, "local:A": 0.6, "local:B": 0.9}
    run = write_run({"A": 12, "B": 12}, dice_of(levels), arms=list(levels))
    summary = summarise(load_results(run), segmentation, n_bootstrap=100)
    assert {one.site: one.verdict for one in summary.benefits} == {"A": "better", "B": "worse"}
    gains = {one.site: one.gain.value for one in summary.benefits}
    assert gains == pytest.approx({"A": 0.2, "B": -0.1}, abs=0.02)
    told = five_sentences(summary)
    assert len(told) == 5
    assert "1 of 2 hospitals joining was worth it" in told[1]
    assert "simulation.protocol=loso" in told[2]


def test_what_a_hospital_gave_is_what_the_others_lose_without_it(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Without A the others' Dice falls by .1; without B it does not move."""
    levels = {"federated": 0.8, "loso-A": 0.7, "loso-B": 0.8}
    run = write_run({"A": 12, "B": 12}, dice_of(levels), arms=list(levels))
    summary = summarise(load_results(run), segmentation, n_bootstrap=100)
    found = {one.site: one for one in summary.given}
    assert found["A"].gain.value == pytest.approx(0.1, abs=0.02)
    assert found["A"].gain.n_subjects == 12  # of B alone
    assert (found["A"].verdict, found["B"].verdict) == ("better", "no difference shown")


def test_probabilities_that_are_too_sure_are_told_from_those_that_are_right(
    write_run: WriteRun, classification: Task
) -> None:
    """A model that says .99 and is right in 3 of 4 cases is off by about a quarter."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        sure = 0.99 if arm == "federated" else 0.75
        truth, is_right = i % 2, i % 4 != 3
        share = sure if truth == is_right else 1 - sure
        scores = {"predicted": float(share > 0.5), "is_correct": float(is_right)}
        return {"truth": float(truth), "prediction": [1 - share, share], "scores": scores}

    run = write_run({"A": 40, "B": 40}, predict, arms=["federated", "pooled"])
    summary = summarise(load_results(run), classification, n_bootstrap=100)
    sure, right = summary.calibrations
    assert sure.ece == pytest.approx(0.24, abs=0.01)
    assert right.ece == pytest.approx(0, abs=0.01)
    assert sure.p_value < 0.01 < right.p_value
    assert "more than chance explains" in five_sentences(summary)[4]
    page = write_report(run, classification)[0].read_text()
    assert "Calibration error" in page
    assert "share of wrong answers among the surest patients" in page  # for those who do not see it


def test_decisions_by_a_model_that_knows_are_worth_more_than_treating_all_or_none(
    write_run: WriteRun, classification: Task
) -> None:
    """Of 80 patients half are ill and a quarter unsure: by hand; only the unsure are wrong."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        truth, is_unsure = i % 2, i % 8 >= 6
        share = 0.45 if is_unsure else 0.9 if truth else 0.1
        right = float((share > 0.5) == bool(truth))
        scores = {"predicted": float(share > 0.5), "is_correct": right}
        return {"truth": float(truth), "prediction": [1 - share, share], "scores": scores}

    run = write_run({"A": 40, "B": 40}, predict, arms=["federated"])
    [found] = write_report(run, classification)[1].calibrations
    at = {round(one.threshold, 1): one for one in found.decisions}
    assert at[0.2].model.value == pytest.approx((40 - 10 * 0.2 / 0.8) / 80)
    assert at[0.2].treat_all == pytest.approx((40 - 40 * 0.2 / 0.8) / 80)
    assert at[0.6].model.value == pytest.approx(30 / 80)  # the unsure ill are missed
    assert found.selected[:3] == ((0.2, 0.0, 16), (0.4, 0.0, 32), (0.6, 0.0, 48))
    assert found.selected[-1] == (1.0, 10 / 80, 80)
    for name in ("selection", "decisions"):
        assert (run / f"figures/{name}.svg").exists()
    with (run / "figures/decisions.csv").open() as file:
        _, row, *_ = csv.DictReader(file)
    assert float(row["gain_low"]) < float(row["gain"]) < float(row["gain_high"])


def test_every_figure_lies_in_the_run_folder_as_svg_and_csv(
    full_run: Path, tmp_path: Path, segmentation: Task
) -> None:
    """The forest's numbers are those of the table, and each drawing is a file of its own."""
    run = tmp_path / full_run.name
    shutil.copytree(full_run, run)
    summary = write_report(run, segmentation)[1]
    names = {path.name for path in (run / "figures").iterdir()}
    assert {"forest.svg", "matrix.svg"} <= names
    assert {one for one in names if one.endswith(".svg")} == {
        one.replace(".csv", ".svg") for one in names if one.endswith(".csv")
    }
    own = {re.sub(r"-DU-\w+", "", name) for name in names if "DU" in name}
    assert own == {f"{kind}.{end}" for kind in ("score", "loss") for end in ("svg", "csv")}
    with (run / "figures/forest.csv").open() as file:
        rows = list(csv.DictReader(file))
    (whole,) = (r for r in rows if (r["where"], r["model"]) == ("all sites", "federated"))
    assert float(whole["value"]) == summary.rows[0].overall["dice"].value
    drawing = (run / "figures/forest.svg").read_text()
    assert drawing.startswith("<?xml")
    assert 'width="' in drawing.partition(">")[2].partition(">")[0]


def test_runs_are_compared_over_shared_patients_alone(tmp_path: Path, segmentation: Task) -> None:
    """Run b is .1 better on the patients that both have; its further hospital does not count."""
    a = written(tmp_path / "a", {"A": 12}, dice_of({"federated": 0.7}))
    b = written(tmp_path / "b", {"A": 12, "B": 12}, dice_of({"federated": 0.8}))
    c = written(tmp_path / "c", {"C": 12}, dice_of({"federated": 0.8}))
    first, second = beside([load_results(a), load_results(b)], segmentation)
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.value == pytest.approx(0.1, abs=1e-6)
    assert second.difference.n_subjects == 12
    assert second.verdict in ("better", "cannot be said")  # the noise of a patient is the same
    with pytest.raises(UsageError, match=r"test patients of c.*\[U14\]"):
        beside([load_results(a), load_results(c)], segmentation)

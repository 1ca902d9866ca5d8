"""Budgets as they are shown: counted from records, together over sites, a seed."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console

from fedmri.reports.budget import arm_budgets, budget_rows, unequal
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.reports.text.tables import as_json
from fedmri.reports.text.terminal import show_summary
from fedmri.tasks.task import Task
from tests.reports.conftest import WriteRun

SITES = {"a": 8, "b": 8}


def run_of(write_run: WriteRun, records: list[dict[str, Any]]) -> Path:
    """Return a run with these records."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return {"scores": {"dice": 0.5 + 0.01 * i + 0.001 * len(arm)}}

    run = write_run(SITES, predict, arms=("federated", "pooled", "local:a", "local:b"), n_seeds=2)
    text = "".join(json.dumps(record) + "\n" for record in records)
    (run / "metrics.jsonl").write_text(text, encoding="utf-8")
    return run


def round_of(arm: str, site: str, seed: int, **fields: Any) -> dict[str, Any]:
    """Return the record of a round."""
    at = {"kind": "round", "arm": arm, "site": site, "seed": seed, "round": 1}
    return {**at, "status": "ok", "n_steps": 3, "n_seen": 20, **fields}


def records() -> list[dict[str, Any]]:
    """Return two seeds of three arms that take six steps each."""
    return [
        record
        for seed in (0, 1)
        for record in (
            round_of("federated", "a", seed),
            round_of("federated", "b", seed),
            round_of("pooled", "pooled", seed, n_steps=6, n_seen=40),
            round_of("local:a", "a", seed),
            round_of("local:b", "b", seed),
        )
    ]


def test_equal_budgets_are_shown_as_equal(write_run: WriteRun, segmentation: Task) -> None:
    """Sites of an arm together, local arms as one row, the mean over seeds; no note."""
    results = load_results(run_of(write_run, records()))
    assert [(b.label, b.n_steps, b.n_seen, b.share) for b in arm_budgets(results)] == [
        ("federated", 6, 40, 1),
        ("pooled", 6, 40, 1),
        ("local (own site)", 6, 40, 1),
    ]
    summary = summarise(results, segmentation, n_bootstrap=100)
    assert not [note for note in summary.notes if "Budgets differ" in note]
    shown = io.StringIO()
    show_summary(summary, Console(file=shown, width=100))
    assert shown.getvalue().count("1.00") == 3
    assert json.loads(as_json(summary))["budgets"][0]["n_steps"] == 6


def test_an_unequal_budget_is_named(write_run: WriteRun, segmentation: Task) -> None:
    """A pool with one site's steps, as once with local steps: a note beside the table."""
    found = [r if r["arm"] != "pooled" else {**r, "n_steps": 3} for r in records()]
    results = load_results(run_of(write_run, found))
    assert unequal(arm_budgets(results)) == ["federated 2.00", "local (own site) 2.00"]
    notes = summarise(results, segmentation, n_bootstrap=100).notes
    assert any("Budgets differ" in note and "federated 2.00" in note for note in notes)


def test_what_a_secure_sum_hides_is_not_counted_as_none(write_run: WriteRun) -> None:
    """No steps are told: the table says so, and calls nothing equal or unequal."""
    hidden = [{k: v for k, v in r.items() if not k.startswith("n_")} for r in records()[:1]]
    (budget,) = arm_budgets(load_results(run_of(write_run, hidden)))
    assert math.isnan(budget.n_steps)
    assert budget_rows([budget])[1][0][1:3] == ["not told", "not told"]
    assert unequal([budget]) == []


def test_scores_of_an_adapted_model_are_called_transductive(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Batch norm from the very images that are scored: arm and site are named."""
    test = {"kind": "test", "arm": "federated", "seed": 0, "round": 1, "site": "b", "status": "ok"}
    found = [*records(), {**test, "metrics": {"dice": 0.5, "is_adapted": 1.0}}]
    notes = summarise(load_results(run_of(write_run, found)), segmentation, n_bootstrap=100).notes
    (note,) = [note for note in notes if note.startswith("Transductive")]
    assert "under federated" in note
    assert "at b." in note

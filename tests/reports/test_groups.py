"""Groups of test patients: what is shown of each against the others, and where groups come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmri.api.submission.grouping import scores_by_group
from fedmri.config import load
from fedmri.errors import UsageError
from fedmri.reports.groups import GROUPS, NOT_KNOWN, group_scores, planned_groups
from fedmri.reports.pages.page import write_report
from fedmri.reports.results import load_results
from fedmri.reports.summary import summarise
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.task import Task
from tests.conftest import Command, RunTiny


def test_a_group_that_is_worse_is_told_and_a_small_one_is_not_judged(
    write_run: Callable[..., Path], segmentation: Task
) -> None:
    """Women's Dice is .1 lower at both sites; the column of no effect, and one patient, say so."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        noise = np.random.default_rng([i, len(site)]).normal(0, 0.02)
        return {"scores": {"dice": 0.8 - 0.1 * (i % 2) + noise}}

    results = load_results(write_run({"A": 20, "B": 20}, predict))
    keys = [(site, f"sub-{i:03d}", i) for site in "AB" for i in range(20)]
    columns = {
        "sex": {(site, who): "MF"[i % 2] for site, who, i in keys},
        "hand": {(site, who): "rl"[i // 2 % 2] for site, who, i in keys},
        "rare": {(site, who): "yes" if (site, i) == ("A", 1) else "no" for site, who, i in keys},
        "all": {(site, who): "one" for site, who, _ in keys},
    }
    found = {(o.column, o.group): o for o in group_scores(results, segmentation, columns)}
    women = found["sex", "F"]
    assert women.against_rest is not None
    assert women.against_rest.value == pytest.approx(-0.1, abs=0.02)
    assert (women.verdict, found["sex", "M"].verdict) == ("worse", "better")
    assert found["hand", "l"].verdict == "no difference shown"
    assert found["rare", "yes"].verdict == "cannot be said"
    assert found["all", "one"].against_rest is None


def test_the_page_shows_the_planned_columns_that_divide_patients(
    write_run: Callable[..., Path], segmentation: Task
) -> None:
    """Sex and age; neither what all share, nor a scanner a patient, nor what is learned."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        noise = np.random.default_rng([i, len(site)]).normal(0, 0.02)
        return {"scores": {"dice": 0.8 - 0.1 * (i % 2) + noise}}

    run = write_run({"A": 20, "B": 20}, predict)
    assert summarise(load_results(run), segmentation, n_bootstrap=100).groups == ()
    cells: dict[str, Callable[[int], str]] = {
        "sex": lambda i: "MF"[i % 2],
        "age": lambda i: "" if i == 0 else str(30 + 2 * i),
        "scanner": lambda i: f"number {i}",
        "field_tesla": lambda i: "3",
        "hand": lambda i: "rl"[i % 2],
    }
    names = {site: [f"sub-{i:03d}" for i in range(20)] for site in "AB"}
    text = {
        column: {site: {who: of(i) for i, who in enumerate(names[site])} for site in names}
        for column, of in cells.items()
    }
    (run / GROUPS).write_text(json.dumps(text))
    path, summary = write_report(run, segmentation)
    found = {(one.column, one.group): one for one in summary.groups}
    assert {column for column, _ in found} == {"sex", "age"}
    sizes = {
        group: one.score.n_subjects for (column, group), one in found.items() if column == "age"
    }
    assert sizes == {"<40": 8, "40-60": 20, ">=60": 10, NOT_KNOWN: 2}
    assert found["sex", "F"].verdict == "worse"
    assert found["age", NOT_KNOWN].verdict == "cannot be said"
    page = path.read_text()
    assert "in groups of test patients, each beside all others" in page
    assert "sex: F" in page
    learned = Classification("sex", ("M", "F"))
    inside = tuple((site, tuple(own)) for site, own in names.items())
    assert set(planned_groups(run, learned, inside)) == {"age"}


def test_groups_come_from_the_tables_of_a_runs_data(
    run_tiny: RunTiny,
    here: Command,
    tmp_path: Path,
) -> None:
    """Every tested patient is in one group of a column; sites dealt anew keep their patients."""
    run = run_tiny("a", "simulation.arms=[federated]", "rounds.n_rounds=1", "partition=iid")
    found = scores_by_group(run, ["sex", "age:50", "scanner"])
    by_column: dict[str, int] = {}
    for one in found:
        by_column[one.column] = by_column.get(one.column, 0) + one.score.n_subjects
        assert one.group != NOT_KNOWN
    assert len({*by_column.values()}) == 1
    assert {one.group for one in found if one.column == "age"} <= {"<50", ">=50"}
    planned = summarise(load_results(run), load(["experiment=smoke"]).plan.target).groups
    named = {(one.column, one.group): one.score.n_subjects for one in found}
    shown = {(one.column, one.group): one.score.n_subjects for one in planned}
    assert {"sex", "age"} <= {column for column, _ in shown}
    assert all(named[key] == n for key, n in shown.items() if key[0] == "sex")
    with pytest.raises(UsageError, match=r"--by hand: found columns.*scanner.*\[U01\]"):
        scores_by_group(run, ["hand"])
    done = here("subgroups", str(run), "--by", "sex", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "minus others" in done.stdout

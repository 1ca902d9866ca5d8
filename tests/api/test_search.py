"""A search over settings: validation patients lead it, all trials count, and it goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmri.api.grid.choice import privacy_of_all
from fedmri.api.grid.file import StudyFile
from fedmri.api.grid.search import N_RANDOM, Search, Span, Tune
from fedmri.api.grid.study_grid import TABLE, StudyGrid
from fedmri.errors import ConfigError
from fedmri.reports.results import TRIALS
from tests.api.test_grid import QUICK, write_file
from tests.reports.conftest import write_run

Tiny = Callable[..., list[str]]
SPACE: dict[str, Any] = {
    "x": Span(-4, 4.0),
    "n": Span(1, 8),
    "lr": Span(1e-5, 1.0, is_log=True),
    "c": ["a", "b"],
}


def proposed(n_trials: int, *, is_following: bool = True) -> list[dict[str, Any]]:
    """Return what is proposed where the score is best at x = 1 and c = b."""
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    search, found = Search(Tune(SPACE, seed=3), is_higher_better=True), []
    for _ in range(n_trials):
        values = search.ask()
        search.tell(-((values["x"] - 1) ** 2) - (values["c"] == "a"))
        if is_following:
            search.follow_scores()
        found.append(values)
    return found


def test_the_same_scores_give_the_same_values_and_all_lie_in_the_space() -> None:
    """So a search that was killed asks for nothing that was not asked for before."""
    found = proposed(20)
    assert found[:12] == proposed(12)
    for values in found:
        assert -4 <= values["x"] <= 4
        assert values["n"] in range(1, 9)
        assert 1e-5 <= values["lr"] <= 1
        assert values["c"] in ("a", "b")


def test_proposals_follow_scores_only_where_they_are_told_to() -> None:
    """Later trials are nearer to the best; random ones do not care for scores."""

    def error(values: list[dict[str, Any]]) -> float:
        return float(sum(abs(one["x"] - 1) for one in values[N_RANDOM:]) / len(values[N_RANDOM:]))

    assert error(proposed(40)) < 0.8 * error(proposed(40, is_following=False))


def test_a_search_goes_on_over_failed_trials_and_counts_all(tiny: Tiny, tmp_path: Path) -> None:
    """One of two rates has no finite loss; the same file again trains nothing that was trained."""
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    trained: list[str] = []

    def observe(record: dict[str, Any]) -> None:
        if record["kind"] == "done":
            trained.append(record["arm"])

    arms = "simulation.arms=[federated,pooled]"
    tune = {"space": {"train.lr": [0.01, 1e30]}, "n_trials": 3}
    file = write_file(tmp_path / "s.yaml", tiny(*QUICK, arms), tune=tune)
    result = StudyGrid(file).run(observe=observe)
    assert sorted(trained) == ["federated", "pooled"]
    assert (result.n_trials, result.n_failed) == (2, 1)
    assert result.chosen is not None
    assert json.loads((result.chosen.folder / TRIALS).read_text())["n_trials"] == 2
    notes = result.chosen.summary.notes
    assert any("among 2 trials" in note for note in notes)
    assert any("1 of the trials failed" in note for note in notes)
    table = (result.folder / TABLE).read_text()
    StudyGrid(file).run(observe=observe)
    assert len(trained) == 2
    assert (result.folder / TABLE).read_text() == table


def test_what_a_search_cannot_be_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid beside it, an empty space, ends in the wrong order; and no Optuna."""
    with pytest.raises(ConfigError, match=r"one of grid, recipe, tune.*\[C01\]"):
        StudyFile("s", grid={"seed": [1]}, tune=Tune({"train.lr": [1]}))
    with pytest.raises(ConfigError, match=r"low below high"):
        Span(2, 1)
    with pytest.raises(ConfigError, match=r"one or more values"):
        Tune({"train.lr": []})
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"no optuna.*pip install 'fedmri\[tune\]'.*\[C05\]"):
        Search(Tune({"train.lr": [1]}), is_higher_better=True)


def test_private_trials_add_up_for_the_patient_who_loses_most(tmp_path: Path) -> None:
    """Two runs of epsilon 1 and 2 at A, and of .5 at B: 3 and twice the delta."""
    runs = [
        write_run(tmp_path / name, {"A": 2, "B": 2}, lambda *_: {"scores": {"dice": 0.5}})
        for name in "ab"
    ]
    for run, epsilon in zip(runs, (1.0, 2.0), strict=True):
        lines = [
            {
                "kind": "round",
                "arm": "federated",
                "seed": 0,
                "round": r,
                "site": site,
                "delta": 1e-5,
            }
            | {"epsilon": r * (epsilon if site == "A" else 0.5) / 2}
            for r in (1, 2)
            for site in "AB"
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert privacy_of_all(runs) == pytest.approx({"epsilon": 3, "delta": 2e-5})
    assert privacy_of_all([]) == {}

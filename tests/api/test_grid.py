"""A study of several runs: each step once, whatever kills it, and chosen on validation alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedmri.api.grid.choice import choose
from fedmri.api.grid.file import StudyFile, read_study
from fedmri.api.grid.pace import Pace
from fedmri.api.grid.study_grid import TABLE, StudyGrid
from fedmri.api.result import StudyResult
from fedmri.api.study import Study
from fedmri.config import load_resolved
from fedmri.errors import ConfigError
from fedmri.reports.results import load_results
from fedmri.simulation.recipe import Recipe
from tests.conftest import forked

Tiny = Callable[..., list[str]]
QUICK = ("rounds.n_rounds=2", "train.local_steps=1", "simulation.n_pictures=0")


def nested(settings: Sequence[str]) -> dict[str, Any]:
    """Return settings as a file of YAML has them."""
    return {key: value for key, _, value in (text.partition("=") for text in settings)}


def write_file(path: Path, settings: Sequence[str], **more: Any) -> Path:
    """Write the file of a study; JSON is YAML."""
    import yaml  # type: ignore[import-untyped]  # it ships no types

    values = {key: yaml.safe_load(value) for key, value in nested(settings).items()}
    path.write_text(json.dumps({"settings": values, **more}), encoding="utf-8")
    return path


def killed_at(grid: StudyGrid, n_records: int) -> bool:
    """Run a study in a process that is killed at its nth record; tell whether it ended well."""
    seen = 0

    def observe(record: dict[str, Any]) -> None:
        nonlocal seen
        seen += 1
        if seen == n_records:
            os.kill(os.getpid(), signal.SIGKILL)

    status = os.waitpid(forked(partial(grid.run, observe=observe)), 0)[1]
    assert status in (0, signal.SIGKILL)
    return status == 0


def finished(folder: Path) -> dict[Path, int]:
    """Return the finished trainings and runs of a study, with when they were finished."""
    places = (*folder.glob("steps/trainings/[0-9a-f]*"), *folder.glob("runs/*/summary.json"))
    return {path: path.stat().st_mtime_ns for path in places}


@pytest.mark.parametrize("n_seeds", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_killed_study_loses_no_finished_step_and_ends_with_the_same_tables(
    tiny: Tiny, tmp_path: Path, n_seeds: int
) -> None:
    """SIGKILL in the middle of trainings, over and over, until the study is through."""
    arms = ("simulation.arms=[federated]", f"simulation.n_seeds={n_seeds}")
    file = write_file(tmp_path / "s.yaml", tiny(*QUICK, *arms), grid={"train.lr": [0.01, 0.001]})
    whole = StudyGrid(file, tmp_path / "whole")
    whole.run()
    killed, n_kills, known = StudyGrid(file, tmp_path / "killed"), 0, dict[Path, int]()
    while not killed_at(killed, 8 + 7 * n_kills):
        n_kills += 1
        now = finished(killed.folder)
        assert {path: now.get(path) for path in known} == known
        known = now
    assert n_kills >= 2
    assert finished(killed.folder).items() >= known.items()
    tables = [(grid.folder / TABLE).read_text() for grid in (whole, killed)]
    assert tables[0] == tables[1]
    assert len(list(killed.folder.glob("steps/trainings/*"))) == 2 * n_seeds
    assert len(list(killed.folder.glob("steps/data/*"))) == 1


def test_a_changed_file_redoes_only_what_the_change_decides_and_choice_looks_at_no_test_patient(
    tiny: Tiny, tmp_path: Path
) -> None:
    """A further arm trains alone; validation patients choose, whatever the tests say."""
    trained: list[str] = []

    def observe(record: dict[str, Any]) -> None:
        if record["kind"] == "done":
            trained.append(record["arm"])

    grid = {"train.lr": [0.01, 1e-9]}
    settings = tiny(*QUICK)
    for arms in ("[federated]", "[federated,pooled]"):
        more = f"simulation.arms={arms}"
        is_chosen = "pooled" in arms
        file = write_file(tmp_path / "s.yaml", [*settings, more], grid=grid, is_chosen=is_chosen)
        study = StudyGrid(file)
        result = study.run(observe=observe)
    assert trained == ["federated", "federated", "pooled", "pooled"]
    assert result.chosen is not None
    assert any("among 2 trials" in note for note in result.chosen.summary.notes)
    assert {"federated", "pooled"} <= {row.label for row in result.chosen.summary.rows}
    runs, task = (
        [one.folder for one in study.variants],
        study.variants[0].study.experiment.plan.target,
    )
    before = choose(runs, task)
    for number, path in enumerate(path for run in runs for path in run.glob("cases/*/*/*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["prediction"] = row["prediction"][:: 1 - 2 * (number % 2)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert choose(runs, task) == before
    assert {one.arm for one in before} == {"federated", "pooled"}


def test_a_simulation_tries_a_recipe_under_one_budget_in_every_arm(
    tiny: Tiny, tmp_path: Path
) -> None:
    """A long round and short ones that keep their optimizer; each arm chooses by itself."""
    settings = tiny(
        "simulation.arms=[federated,pooled]", "simulation.n_pictures=0", "model.width=2"
    )
    tried = ("recipe=auto", "recipe.n_steps=60", "recipe.n_trials=2")
    study = Study(settings=[*settings, *tried, f"simulation.runs={tmp_path}"]).begun()
    result = study.trained(lambda record: None)
    plans = [load_resolved(path).plan for path in study.run_folder.glob("runs/*/config.yaml")]
    long, short = sorted(plans, key=lambda plan: plan.rounds.n_rounds)
    assert (long.rounds.n_rounds, long.train.local_steps) == (1, 60)
    assert (short.rounds.n_rounds, short.train.local_steps) == (5, 12)
    assert short.train.is_optimizer_kept
    told = json.loads((result.folder / "trials.json").read_text())
    assert told["n_trials"] == len(told["tried"]) == 2
    for arm in ("federated", "pooled"):
        scores = [one["scores"][arm] for one in told["tried"]]
        assert told["chosen"][arm]["score"] == max(scores)
    assert StudyResult.open(study.run_folder).folder == result.folder
    assert (result.folder / "groups.json").exists()  # what its report says beside scores
    validated = load_results(result.folder).validated
    assert {arm for arm, _ in validated} == {"federated", "pooled"}
    trained: list[str] = []
    again = Study.resumed(study.run_folder)
    again.trained(lambda record: trained.append(record["kind"]))
    assert not trained


@pytest.mark.parametrize("more", ["data.split.val=0", "simulation.strategies=[fedavg,fedprox]"])
def test_a_recipe_that_nothing_could_be_chosen_of_is_refused(more: str) -> None:
    """Before anything is trained."""
    with pytest.raises(ConfigError, match=r"setting recipe=auto.*\[C03\]"):
        Study(settings=["recipe=auto", more]).check()


def test_a_recipe_counts_the_same_steps_whatever_is_tried() -> None:
    """Eight trials: each takes a site 1,200 steps; a recipe beside a grid is refused."""
    file = StudyFile("s", {"experiment": "lgg_tumour"}, recipe=Recipe(n_steps=1200, n_trials=8))
    tried = [*file.variants()]
    assert len(tried) == 8
    assert {one["train.local_steps"] * one["rounds.n_rounds"] for one in tried} == {1200}
    assert len({json.dumps(one, sort_keys=True) for one in tried}) == 8
    with pytest.raises(ConfigError, match=r"grid.*recipe.*C01"):
        StudyFile("s", grid={"train.lr": [1]}, recipe=Recipe(n_steps=60))


@pytest.mark.slow
def test_runs_on_other_patients_are_not_chosen_among(tiny: Tiny, tmp_path: Path) -> None:
    """Another seed draws another split: the validation patients of one are the tests of another."""
    settings = tiny(*QUICK, "simulation.arms=[federated]")
    file = write_file(tmp_path / "s.yaml", settings, grid={"seed": [0, 1]}, is_chosen=True)
    with pytest.raises(ConfigError, match=r"2 divisions.*same patients.*\[C03\]"):
        StudyGrid(file).run()


def test_a_grid_is_every_combination_and_its_mistakes_are_named(tmp_path: Path) -> None:
    """Sections of a list are gone through one after another; a value alone is no list."""
    grid: list[Mapping[str, Any]] = [{"a": [1, 2], "b": ["x"]}, {"c": [3]}]
    file = StudyFile("s", grid=grid)
    assert list(file.variants()) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"c": 3}]
    assert list(StudyFile("s").variants()) == [{}]
    with pytest.raises(ConfigError, match=r"grid.a.*want a list of values"):
        StudyFile("s", grid={"a": 1})
    path = tmp_path / "s.yaml"
    path.write_text("settings: {}\nseeds: 3\n")
    with pytest.raises(ConfigError, match=r"seeds"):
        read_study(path)


def test_the_time_left_follows_the_work_that_is_left() -> None:
    """At 100 s for a quarter of equal work, 300 s are left; unknown before anything is done."""
    now, lines = [0.0], list[str]()
    pace = Pace(2, lines.append, lambda: now[0])
    pace.observe({"kind": "begun", "runs": [("a", 0), ("b", 0)], "work": [5.0, 5.0]})
    assert "unknown" in pace.line
    now[0] = 100.0
    pace.observe({"kind": "done", "arm": "a", "seed": 0})
    assert pace.remaining_s == pytest.approx(300)
    assert lines == ["run 1 of 2, 1 trainings left; about 300 s left"]


RECORDED = (
    (8.46, (24, 24, 6, 12, 6), (10.22, 11.90, 13.11, 14.40, 15.48)),
    (21.29, (18, 18, 6, 6, 6), (22.88, 24.35, 25.58, 26.71, 27.74)),
    (34.61, (24, 24, 6, 12, 6), (36.53, 38.16, 39.27, 40.41, 41.52)),
    (47.62, (18, 18, 6, 6, 6), (49.36, 50.99, 52.26, 53.27, 54.26)),
)
"""A study of four tiny runs: when each began, steps of its trainings, when each training ended."""
ENDED = 60.92


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_the_time_left_is_right_within_a_third(speed: float) -> None:
    """From the second run on; as it was recorded, and as if steps took 60 times as long."""
    now, lines = [0.0], list[str]()
    pace = Pace(len(RECORDED), lines.append, lambda: now[0])
    told, late = list[tuple[float, float]](), 0.0
    for number, (begun, work, ends) in enumerate(RECORDED):
        now[0] = begun + late
        runs = [(str(i), 0) for i in range(len(work))]
        pace.observe({"kind": "begun", "runs": runs, "work": list(map(float, work))})
        for (arm, seed), n_steps, ended in zip(runs, work, ends, strict=True):
            late += 0.04 * n_steps * (speed - 1)
            now[0] = ended + late
            pace.observe({"kind": "done", "arm": arm, "seed": seed})
            told += [(now[0], pace.remaining_s)] if number else []
    for when, remaining in told:
        assert remaining == pytest.approx(ENDED + late - when, rel=1 / 3)

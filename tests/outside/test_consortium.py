"""Parts of another distribution in a consortium of real processes, known by its files' hash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fedmri.config import load
from fedmri.simulation import demo
from tests.conftest import TINY
from tests.outside.conftest import python_path

TIMEOUT_S = 300.0
GRADE = ("target.kind=grade", "target.name=lesion", "target.grades=[spots,wedge,mass]")
PARTS = ("strategy=half_step", "strategy.way=0.25", "model=one_layer", "stages=[gain,late]", *GRADE)


@pytest.mark.slow  # a consortium of its own, as each of its processes has other code
def test_each_hospital_runs_the_very_files_that_the_plan_names_or_nothing(
    hospitals: Path, at_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has them, one has none, one has altered ones: the first alone trains, by its own code."""
    altered = shutil.copytree(at_hand, tmp_path / "altered")
    with (altered / "atlas_parts" / "half_step.py").open("a") as file:
        file.write("# another byte\n")
    consortium = demo.make_consortium(tmp_path, demo.own_folders(hospitals, tmp_path / "scans"))
    has, has_none, has_other = sorted(consortium.sites)
    paths = {has: (at_hand,), has_none: (), has_other: (altered,), "server": (at_hand,)}

    def at(name: str) -> None:
        monkeypatch.setenv("PYTHONPATH", python_path(*paths[name]))

    rounds = ("rounds.min_sites=3", "rounds.quorum=0.3", "rounds.timeout_s=60")
    plan = load([*TINY, *PARTS, "rounds.n_rounds=2", *rounds, "name=outside"]).plan
    with demo.running(consortium, before_each=at):
        run = demo.submit(consortium, plan)
        demo.wait(run, TIMEOUT_S, lambda run: None)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    said = {(r["site"], r["status"]) for r in map(json.loads, lines) if r["kind"] == "round"}
    assert said == {(has, "ok"), (has_none, "C41"), (has_other, "C41")}

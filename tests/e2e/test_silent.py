"""A hospital that says nothing costs one deadline, and takes part from the round it comes in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedmri.clients.consent import approval
from fedmri.clients.consent.approval import seen_plans
from fedmri.plan import Plan
from fedmri.server.runs import RunFolder
from fedmri.simulation import demo
from fedmri.simulation.arms import running
from tests.e2e.breaking import ask_before_each_plan
from tests.e2e.conftest import plan_of
from tests.latecomers import Latecomers

pytestmark = pytest.mark.slow  # real processes; on a busy machine they start too late

TIMEOUT_S = 480.0
DEADLINE_S = 60.0
LATE = "site01"
JOINS = 3


@pytest.fixture(scope="module")
def consortium(
    hospitals: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[demo.Consortium]:
    """Run a coordinator and three hospitals, the first of which wants to look at each plan."""
    folder = tmp_path_factory.mktemp("silent")
    made = demo.make_consortium(folder, demo.own_folders(hospitals, folder / "scans"))
    ask_before_each_plan(made.sites[LATE])
    with demo.running(made):
        yield made


def records(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    """Return the records of a kind."""
    path = run.path / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def approving(consortium: demo.Consortium, after_round: int) -> Callable[[RunFolder], None]:
    """Return what lets the first hospital approve once it was left out of a round."""

    def look(run: RunFolder) -> None:
        rounds = {r["round"]: r["rejected"] for r in records(run, "round_total")}
        if LATE in rounds.get(after_round, {}):
            [signed] = [
                one for one in seen_plans(consortium.sites[LATE]) if one.plan.name == run.name
            ]
            approval.approve(consortium.sites[LATE], signed, "command")

    return look


@pytest.fixture
def simulated(
    hospitals: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Plan], str]:
    """Return what simulates a plan with the same sites in each round, for its SHA-256."""
    monkeypatch.setattr(running, "InProcessGrid", partial(Latecomers, {LATE: JOINS}))
    return lambda plan: demo.simulated(plan, hospitals, tmp_path, cache)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(("strategy=fedavg",), id="in clear"),
        pytest.param(
            ("secagg.is_on=true", "strategy=fedprox"), id="secure", marks=pytest.mark.slow
        ),
        pytest.param(
            ("strategy=fedbn", "model.norm=batch"), id="own layers", marks=pytest.mark.slow
        ),
    ],
)
def test_the_third_hospital_joins_in_the_round_in_which_it_approves(
    consortium: demo.Consortium, simulated: Callable[[Plan], str], settings: tuple[str, ...]
) -> None:
    """Two of three approve: the run goes on within one deadline, and not one a round."""
    wanted = (*settings, "rounds.quorum=0.6", "rounds.min_sites=2", "rounds.n_rounds=4")
    name = "late-" + settings[0].split("=")[0].replace(".", "-") + settings[0].split("=")[1]
    plan = plan_of(f"name={name}", f"rounds.timeout_s={DEADLINE_S}", *wanted)
    run = demo.submit(consortium, plan, name)
    deployed = demo.wait(run, TIMEOUT_S, approving(consortium, JOINS - 1))
    rounds = {r["round"]: r for r in records(run, "round_total")}
    assert {n: r["rejected"] for n, r in rounds.items()} == {
        1: {LATE: "P11"},
        2: {LATE: "P11"},
        3: {},
        4: {},
    }
    assert rounds[1]["seconds"] < 1.5 * DEADLINE_S
    assert all(rounds[n]["seconds"] < DEADLINE_S for n in (2, 3, 4))
    assert deployed == simulated(plan)

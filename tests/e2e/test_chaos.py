"""Whatever is killed or cut off, a run ends with the bits of an undisturbed one, records and all.

``benchmarks/resilience/chaos.py`` does this many times, at random moments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fedmri.clients.egress.ledger import entries
from fedmri.simulation import demo
from fedmri.simulation.arms import running
from tests.e2e.breaking import Lane, Scenario, go
from tests.e2e.conftest import plan_of
from tests.latecomers import NEVER, Latecomers

SILENT = ("rounds.quorum=0.6", "rounds.min_sites=2", "strategy=fedavg")
SECURE = plan_of("secagg.is_on=true", "harmonize=nyul", "rounds.timeout_s=120")


@pytest.fixture(scope="module")
def lane(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """Run a consortium whose processes and connections a test may break."""
    lane = Lane(tmp_path_factory.mktemp("lane"), hospitals)
    lane.usual_s = 10.0
    with lane.running():
        yield lane


@pytest.fixture(scope="module")
def right(hospitals: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the SHA-256 of the weights that nobody disturbed."""
    plan = plan_of("strategy=fedbn", "model.norm=batch")
    return demo.simulated(plan, hospitals, tmp_path_factory.mktemp("undisturbed"), cache)


@pytest.mark.parametrize(
    ("victim", "action", "for_s"),
    [
        pytest.param("server", "kill", 1.0, marks=pytest.mark.slow),
        pytest.param("connection", "reset", 8.0, marks=pytest.mark.slow),
        pytest.param("server", "end", 1.0, marks=pytest.mark.slow),
        pytest.param("ServerApp", "kill", 0.0, marks=pytest.mark.slow),
        pytest.param("ServerApp", "stop", 70.0, marks=pytest.mark.slow),
        pytest.param("SuperNode", "kill", 0.0, marks=pytest.mark.slow),
        pytest.param("worker", "stop", 70.0, marks=pytest.mark.slow),
        pytest.param("client", "kill", 2.0, marks=pytest.mark.slow),
        pytest.param("connection", "stall", 40.0, marks=pytest.mark.slow),
    ],
)
def test_no_single_failure_changes_a_bit(
    lane: Lane, right: str, victim: str, action: str, for_s: float
) -> None:
    """The run goes on by itself: right weights, each record once, no orphan, one ServerApp."""
    plan = plan_of("strategy=fedbn", "model.norm=batch", "rounds.timeout_s=120")
    number = len(list(lane.consortium.server.runs.glob("run-*")))
    scenario = Scenario(number, "fedbn", victim, action, "site02", 0.8, for_s)
    outcome = go(lane, scenario, plan, right)
    assert outcome.is_right, outcome.told
    assert not outcome.faults


@pytest.fixture(scope="module")
def secure(hospitals: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the SHA-256 of the weights of an undisturbed run with secure sums."""
    return demo.simulated(SECURE, hospitals, tmp_path_factory.mktemp("secure"), cache)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "ServerApp"])
def test_no_failure_spoils_a_secure_sum(lane: Lane, secure: str, victim: str) -> None:
    """What is killed takes its step again from its disk, or begins another sum: the same bits."""
    number = len(list(lane.consortium.server.runs.glob("run-*")))
    scenario = Scenario(number, "fedavg", victim, "kill", "site02", 0.8, 0.0)
    outcome = go(lane, scenario, SECURE, secure)
    assert outcome.is_right, outcome.told
    assert not outcome.faults


PRIVATE = plan_of(
    *("strategy=scaffold", "harmonize=nyul", "rounds.timeout_s=120", "rounds.n_rounds=3"),
    *("train.optimizer=sgd", "train.momentum=0", "train.clip_grad_norm=0"),
    *("privacy.noise_multiplier=1.0", "privacy.batch_subjects=2"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "seed"), [("server", 1), ("worker", 2)])
def test_no_failure_is_spent_twice(
    lane: Lane, hospitals: Path, tmp_path: Path, victim: str, seed: int
) -> None:
    """Noise, SCAFFOLD's state and landmarks, killed and resumed: the same bits and accounts."""
    # another seed each: the same bits, sent again, would be free
    plan = replace(PRIVATE, seed=seed)
    right = demo.simulated(plan, hospitals, tmp_path, tmp_path / "cache")
    number = len(list(lane.consortium.server.runs.glob("run-*")))
    scenario = Scenario(number, "scaffold", victim, "kill", "site02", 0.8, 1.0)
    outcome = go(lane, scenario, plan, right)
    assert outcome.is_right, outcome.told
    assert not outcome.faults
    for site, home in lane.consortium.sites.items():
        [simulated] = tmp_path.rglob(f"sites/{site}/federated/seed-{seed}/privacy.jsonl")
        run = f"run-{number:03d}"
        here = [e["update"] for e in entries(home.privacy_ledger) if e["run"] == run]
        assert here == [entry["update"] for entry in entries(simulated)]
        assert len(here) == plan.rounds.n_rounds


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "ServerApp"])
def test_a_silent_hospital_and_a_failure_change_no_bit(
    hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    """One hospital never approves and a process of another dies: the two others end as planned."""
    plan = plan_of(*SILENT, "rounds.timeout_s=60")
    monkeypatch.setattr(running, "InProcessGrid", partial(Latecomers, {"site03": NEVER}))
    right = demo.simulated(plan, hospitals, tmp_path / "simulated", tmp_path / "cache")
    lane = Lane(tmp_path / "lane", hospitals, silent="site03")
    lane.usual_s = 10.0
    with lane.running():
        outcome = go(lane, Scenario(1, "fedavg", victim, "kill", "site02", 0.8, 0.0), plan, right)
    assert outcome.is_right, outcome.told
    assert outcome.faults == []

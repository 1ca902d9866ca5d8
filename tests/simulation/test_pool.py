"""Workers that several arms share at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict

from fedmri.server.rounds.records import Record
from fedmri.simulation.engines.flower import Node
from fedmri.simulation.engines.pool import PooledGrid, ProcessEngine
from fedmri.wire.grid import FIRST_NODE
from tests.conftest import RunTiny
from tests.simulation.test_study import model_of

N_SITES = 5


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ProcessEngine]:
    """One worker: whoever keeps its blocks stops all others."""
    made = ProcessEngine(1, "fedmri.clients.app:app", tmp_path / "log.txt")
    yield made
    made.close()


def test_a_round_that_is_given_up_leaves_the_workers_to_others(
    engine: ProcessEngine, tmp_path: Path
) -> None:
    """An arm that ends in the middle of its answers keeps no block of a worker."""
    nodes = [
        Node(f"site{i}", {"site": f"site{i}", "prepared": "[]", "folder": str(tmp_path)})
        for i in range(N_SITES)
    ]

    def asked() -> Iterator[Message]:
        grid = PooledGrid(engine, nodes, {"plan": "{}"})
        orders = [Message(RecordDict(), FIRST_NODE + i, "train") for i in range(N_SITES)]
        return grid.stream(orders)

    given_up = asked()
    assert next(given_up).has_error()
    given_up.close()  # type: ignore[attr-defined]  # a generator
    assert len(list(asked())) == N_SITES


def test_arms_side_by_side_have_the_bits_of_arms_one_by_one(run_tiny: RunTiny) -> None:
    """Federations of several strategies and seeds share the workers and end the same."""
    compared = ("simulation.strategies=[fedavg,fedprox]", "simulation.arms=[federated,pooled]")
    told: list[tuple[str, str]] = []

    def observe(record: Record) -> None:
        if "arm" in record:
            told.append((record["arm"], record["kind"]))

    alone = run_tiny("alone", *compared)
    shared = run_tiny("shared", *compared, "simulation.workers=2", observe=observe)
    arms = sorted(path.parent.parent.name for path in alone.glob("arms/*/*/model.safetensors"))
    assert len(arms) == 3
    assert [model_of(alone, arm) for arm in arms] == [model_of(shared, arm) for arm in arms]
    first = {arm: told.index(next(one for one in told if one[0] == arm)) for arm, _ in told}
    assert max(first.values()) < min(i for i, (_, kind) in enumerate(told) if kind == "done")

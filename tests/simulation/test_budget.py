"""One budget for all arms: the same steps of the optimizer, over the same number of examples."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from fedmri.training.budget import Budget, round_budget, shared_steps, total
from fedmri.training.local import even
from fedmri.training.settings import TrainConfig
from tests.conftest import RunTiny

QUICK = ("rounds.n_rounds=2", "rounds.evaluate_every=0", "simulation.n_pictures=0")
PLAIN_SGD = ("train.optimizer=sgd", "train.momentum=0", "train.clip_grad_norm=0", "train.lr=0.05")


def spent(folder: Path) -> dict[str, Budget]:
    """Return what the sites of each arm recorded; local arms count as one."""
    found: dict[str, Budget] = defaultdict(lambda: Budget(0, 0))
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "round":
            arm = record["arm"].removeprefix("federated:")
            arm = "local" if arm.startswith("local:") else arm
            found[arm] += Budget(round(record["n_steps"]), record["n_seen"])
    return dict(found)


@pytest.mark.parametrize(
    ("config", "sizes", "budget"),
    [
        (TrainConfig(local_epochs=3), (8, 8, 2), Budget(9, 54)),
        (TrainConfig(local_steps=2), (8, 8, 2), Budget(2, 16)),
        (TrainConfig(local_steps=7), (8, 8, 2), Budget(7, 44)),
        (TrainConfig(local_steps=4), (9,), Budget(4, 36)),
        (TrainConfig(local_steps=4), (), Budget(0, 0)),
        (TrainConfig(local_steps=4, local_examples=30), (8,), Budget(4, 30)),
    ],
)
def test_a_round_is_counted_beforehand(
    config: TrainConfig, sizes: Sequence[int], budget: Budget
) -> None:
    """Passes, or steps that go on into a next pass; a site without patients takes none."""
    assert round_budget(config, sizes) == budget


def test_budgets_add_up() -> None:
    """A pool takes what its sites take."""
    assert total([Budget(2, 16), Budget(0, 0), Budget(3, 9)]) == Budget(5, 25)


@pytest.mark.parametrize(
    ("n_steps", "shares"), [(n, (s, 1 - s)) for n in range(2, 9) for s in (0.1, 0.5, 0.9)]
)
def test_phases_that_share_a_round_take_its_steps(n_steps: int, shares: tuple[float, ...]) -> None:
    """Whatever the rounding: the round's steps in sum, and one each."""
    counts = shared_steps(n_steps, shares)
    assert sum(counts) == n_steps
    assert min(counts) >= 1


def test_examples_are_shared_evenly() -> None:
    """Eleven over four steps: no step has two more than another."""
    assert even(11, 4) == [3, 3, 3, 2]


@pytest.mark.parametrize(
    "settings",
    [
        ("train.batch_size=3",),
        pytest.param(("train.batch_size=2", "train.local_epochs=2"), marks=pytest.mark.slow),
        ("train.batch_size=2", "train.local_steps=5"),
        pytest.param(("train.local_steps=3",), marks=pytest.mark.slow),
        ("train.local_steps=1", "partition=quantity", "partition.n_sites=4", "partition.alpha=0.3"),
        (
            *("privacy.noise_multiplier=1.0", "privacy.batch_subjects=3", "train.local_steps=4"),
            *PLAIN_SGD,
        ),
        pytest.param(
            ("privacy.noise_multiplier=1.0", "privacy.batch_subjects=3", *PLAIN_SGD),
            marks=pytest.mark.slow,
        ),
    ],
    ids=[
        *("a batch that does not divide", "two epochs", "steps", "steps over all", "unequal sites"),
        *("private steps", "private epochs"),
    ],
)
def test_pooled_takes_the_sum_over_sites(run_tiny: RunTiny, settings: tuple[str, ...]) -> None:
    """The promise of decision 0003: federated, local and pooled take the same, to the example."""
    found = spent(run_tiny("a", *QUICK, *settings))
    assert found["federated"].n_steps > 0
    assert found["local"] == found["federated"]
    assert found["pooled"].n_steps == found["federated"].n_steps
    assert found["pooled"].n_seen == pytest.approx(found["federated"].n_seen)


def test_strategies_take_one_budget_and_ditto_two(run_tiny: RunTiny) -> None:
    """What a design needs more of is counted too: Ditto trains a second model at each site."""
    names = "fedavg", "fedprox", "cyclic", "fedrep", "moon", "ditto"
    configs = ",".join(f"{{name: {name}}}" for name in names)
    arms = f"simulation.strategies=[{configs}]"
    found = spent(run_tiny("a", *QUICK, "train.batch_size=2", "train.local_steps=3", arms))
    one = found["pooled"]
    assert {name: found[name] for name in names[:-1]} == dict.fromkeys(names[:-1], one)
    assert found["ditto"] == one + one


def test_the_pool_without_a_site_takes_the_sum_of_the_others(run_tiny: RunTiny) -> None:
    """Left-out sites: each pair of arms has a budget of its own."""
    arms = "simulation.arms=[federated,pooled]"
    found = spent(run_tiny("a", *QUICK, "simulation.protocol=loso", "train.local_steps=3", arms))
    for site in ("site01", "site02", "site03"):
        assert found[f"loso:{site}"] == found[f"loso-pooled:{site}"]

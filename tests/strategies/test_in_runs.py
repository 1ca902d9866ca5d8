"""What strategies keep at sites, over whole tiny runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmri.compatibility import plan_advice
from fedmri.config import load
from fedmri.errors import ConfigError
from fedmri.server.rounds.records import Record
from tests.conftest import RunTiny
from tests.simulation.test_study import records

FEDERATED = "simulation.arms=[federated]"


@pytest.mark.parametrize("strategy", [("fedper",), ("fedbn", "model.norm=batch"), ("ditto",)])
def test_the_best_rounds_model_is_tested_with_what_sites_kept_of_that_round(
    run_tiny: RunTiny, strategy: tuple[str, ...]
) -> None:
    """The first of many rounds is the best, as steps are tiny: its test is that of a run of one."""
    name, *more = strategy
    settings = (FEDERATED, f"strategy={name}", *more, "train.lr=1e-9", "rounds.select=best")
    long = run_tiny("long", *settings, "rounds.n_rounds=6")
    assert records(long, kind="done")[0]["round"] == 1
    short = run_tiny("short", *settings, "rounds.n_rounds=1")

    def tests(folder: Path) -> list[float]:
        return [record["metrics"]["loss"] for record in records(folder, kind="test")]

    assert tests(long) == tests(short)


def test_fednova_under_another_optimizer_than_sgd_is_advised_against_once(
    run_tiny: RunTiny,
) -> None:
    """Where the study starts, however many strategies and seeds; under SGD nothing is said."""
    told: list[str] = []

    def observe(record: Record) -> None:
        told.extend(record["advice"] if record["kind"] == "begun" else ())

    compared = "simulation.strategies=[{name: fedavg},{name: fednova}]"
    run_tiny("a", FEDERATED, compared, "simulation.n_seeds=2", "rounds.n_rounds=1", observe=observe)
    assert len([text for text in told if "counts steps of SGD; those of adamw" in text]) == 1
    assert plan_advice(load(["strategy=fednova", "train.optimizer=sgd"]).plan) == ()


def test_combat_is_refused_where_each_site_has_embeddings_of_its_own() -> None:
    """Under lgfedavg the network below the head differs: there is no common scale to bring to."""
    with pytest.raises(ConfigError, match=r"lgfedavg, which may score models of the s.*C03"):
        load(["experiment=age", "strategy=lgfedavg", "harmonize=combat"])


def test_a_site_that_has_nobody_to_train_on_has_no_model_of_its_own(run_tiny: RunTiny) -> None:
    """Ditto scores it with the global model, not the untrained one; FedPer has no head for it."""
    idle = ("partition=quantity", "partition.n_sites=4", "partition.alpha=0.1", "seed=1")
    settings = (FEDERATED, "rounds.n_rounds=1", *idle)
    found = {
        name: {
            record["site"]: record.get("metrics", {}).get("loss", record["status"])
            for record in records(run_tiny(name, *settings, f"strategy={name}"), kind="test")
        }
        for name in ("fedavg", "ditto", "fedper")
    }
    same = {site for site, loss in found["ditto"].items() if loss == found["fedavg"][site]}
    assert same
    assert {found["fedper"][site] for site in same} == {"R10"}


def test_a_strategy_that_the_network_is_not_for_is_refused_before_the_others_train(
    run_tiny: RunTiny, tmp_path: Path
) -> None:
    """FedBN of a network with group norm, named last: nothing has been prepared."""
    with pytest.raises(ConfigError, match=r"strategy fedbn.*model.norm=batch.*\[C03\]"):
        run_tiny("a", "simulation.strategies=[{name: fedavg},{name: fedbn}]")
    assert not (tmp_path / "a" / "used.json").exists()

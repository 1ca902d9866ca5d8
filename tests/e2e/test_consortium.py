"""One code path: a consortium of real processes over TLS ends where a simulation ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedmri.clients.egress.ledger import entries, verify
from fedmri.clients.process.home import ClientHome
from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from fedmri.server.runs import RunFolder
from fedmri.server.views.fetch import fetch_run
from fedmri.simulation import demo
from fedmri.trained.model import TrainedModel
from tests.e2e.conftest import Deployment, plan_of

TIMEOUT_S = 480.0
PLAIN_SGD = ("train.optimizer=sgd", "train.momentum=0", "train.clip_grad_norm=0")
COMBAT = ("harmonize=[nyul,combat]", "stages.combat.n_min=2")


@pytest.mark.slow  # as the private and the secure one below show, which are run each time
@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("fedprox", ("harmonize=coral",)),
        ("fedavg", ()),
        ("fedbn", ()),
        ("scaffold", (*PLAIN_SGD, "harmonize=nyul")),
        ("fedbn", COMBAT),
        ("cyclic", ()),
    ],
)
def test_a_deployment_ends_with_the_weights_of_a_simulation(
    deployment: Deployment, cache: Path, strategy: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    """SuperLink, SuperNodes, keys, TLS and three processes' own data change no bit."""
    plan = plan_of(f"strategy={strategy}", f"name={strategy}", "model.norm=batch", *more)
    run = demo.submit(deployment.consortium, plan)
    deployed = demo.wait(run, TIMEOUT_S, lambda run: None)
    assert deployed == demo.simulated(plan, deployment.data, tmp_path, cache)


def left(home: ClientHome, run: RunFolder) -> list[dict[str, Any]]:
    """Return what a site's ledger, which is whole, says of a run; all of it is of the plan."""
    verify(home.ledger)
    mine = [entry for entry in entries(home.ledger) if entry["run"] == run.name]
    assert {entry["plan"] for entry in mine} == {run.signed.sha256}
    return mine


PRIVATE = ("privacy.noise_multiplier=1.0", "privacy.batch_subjects=2")


def test_a_private_deployment_ends_with_the_weights_of_a_simulation(
    deployment: Deployment, cache: Path, tmp_path: Path
) -> None:
    """Noise, SCAFFOLD's state and Nyúl's landmarks: the same bits, and the same account of them."""
    plan = plan_of("name=private", "strategy=scaffold", "harmonize=nyul", *PLAIN_SGD, *PRIVATE)
    run = demo.submit(deployment.consortium, plan)
    deployed = demo.wait(run, TIMEOUT_S, lambda run: None)
    assert deployed == demo.simulated(plan, deployment.data, tmp_path, cache)
    for site, home in deployment.consortium.sites.items():
        [simulated] = tmp_path.rglob(f"sites/{site}/federated/seed-0/privacy.jsonl")
        spent = [
            [entry["update"] for entry in entries(ledger)]
            for ledger in (simulated, home.privacy_ledger)
        ]
        assert spent[0] == spent[1]
        assert len(spent[0]) == plan.rounds.n_rounds


def test_a_secure_deployment_ends_with_the_weights_of_a_simulation(
    deployment: Deployment, cache: Path, tmp_path: Path
) -> None:
    """Masked sums of images, then masked noised updates: the same bits, and nothing in clear."""
    settings = ("secagg.is_on=true", "harmonize=nyul", "strategy=fedprox", *PRIVATE)
    plan = plan_of("name=secure", "rounds.n_rounds=1", *settings)
    run = demo.submit(deployment.consortium, plan)
    deployed = demo.wait(run, TIMEOUT_S, lambda run: None)
    assert deployed == demo.simulated(plan, deployment.data, tmp_path, cache)
    for home in deployment.consortium.sites.values():
        mine = left(home, run)
        answers = "keys keys sums keys keys keys update keys scores scores"
        assert " ".join(entry["kind"] for entry in mine) == answers
        told = " ".join(word for entry in mine for word in entry["what"])
        assert '"n_examples": 0, "n_subjects": 0' in told
        assert "n_steps" not in told
    uses_it_elsewhere(deployment, run.name, tmp_path, deployed)


def uses_it_elsewhere(deployment: Deployment, name: str, tmp_path: Path, deployed: str) -> None:
    """A fetched model, with its landmarks, predicts on a scan of a hospital that took no part."""
    fetch_run(deployment.consortium.server, name, tmp_path / "fetched")
    model = TrainedModel.open(tmp_path / "fetched" / "model.safetensors")
    assert model.card.sha256 == deployed
    assert (model.card.n_sites, model.card.sites) == (3, ())
    assert model.file.harmonized["nyul"]["landmarks"].shape == (1, 13)
    generate(tmp_path / "elsewhere", SyntheticConfig(n_sites=1, n_subjects=2, spacing_mm=8), 9)
    scans = sorted((tmp_path / "elsewhere").glob("sub-*/anat/*_T1w.nii.gz"))
    found = model.predict(*scans)
    assert len(found) == len(scans) > 0
    changed = dict(model.file.harmonized["nyul"])
    changed["landmarks"] = changed["landmarks"] ** 2 / 100
    other = TrainedModel(replace(model.file, harmonized={"nyul": changed}))
    assert other.predict(*scans).patients != found.patients  # the landmarks are what it looks by


@pytest.mark.slow
def test_a_hospitals_noise_is_that_of_a_simulation(
    deployment: Deployment, cache: Path, tmp_path: Path
) -> None:
    """The last layer alone leaves, clipped and noised by the site's own secret: the same bits."""
    noise = ("privacy.site.noise_multiplier=2", "privacy.site.clip_norm=0.1")
    plan = plan_of("name=hospital", "strategy=lgfedavg", "rounds.n_rounds=2", *noise)
    run = demo.submit(deployment.consortium, plan)
    deployed = demo.wait(run, TIMEOUT_S, lambda run: None)
    assert deployed == demo.simulated(plan, deployment.data, tmp_path, cache)
    for site, home in deployment.consortium.sites.items():
        [simulated] = tmp_path.rglob(f"sites/{site}/federated/seed-0/privacy.jsonl")
        there = [e["update"] for e in entries(simulated)]
        here = [e["update"] for e in entries(home.privacy_ledger) if e["run"] == run.name]
        assert here == there
        assert len(there) == 2


def test_what_is_counted_after_the_test_is_that_of_a_simulation(
    deployment: Deployment, cache: Path, tmp_path: Path
) -> None:
    """Area, temperature and coverage: sums leave each hospital once, and stand in its ledger."""
    stages = "stages={counted_auc: {n_least: 1}, reliability: {n_least: 1}}"
    plan = plan_of("name=area", stages, "rounds.n_rounds=1", "data.split={val: 0.4, test: 0.5}")
    run = demo.submit(deployment.consortium, plan)
    demo.wait(run, TIMEOUT_S, lambda run: None)
    demo.simulated(plan, deployment.data, tmp_path, cache)
    folders = deployment.consortium.server.runs / run.name, *(tmp_path / "arms").rglob("seed-0")
    deployed, simulated = (
        {
            record["stage"]: record.get("areas") or record["reliability"]
            for record in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
            if record["kind"] == "found"
        }
        for folder in folders
    )
    np.testing.assert_equal(deployed, simulated)
    assert any(area["error_bound"] < 0.5 for area in deployed["counted_auc"].values())
    assert all(n > 0 for n in deployed["reliability"]["sums"]["n"])
    for home in deployment.consortium.sites.values():
        mine = left(home, run)
        kinds = ["update", "scores", "scores", "sums", "sums", "sums"]
        assert [entry["kind"] for entry in mine] == kinds
        assert "sums: 4 arrays" in mine[3]["what"]
        assert "sums: 2 arrays" in mine[4]["what"]
        assert not [*home.runs.rglob("embeddings.npz")]  # nobody there could compare them


def test_tables_are_harmonized_where_they_lie(deployment: Deployment, tmp_path: Path) -> None:
    """Each site names a table of its own; sums leave through border and ledger, the rest stays."""
    rng = np.random.default_rng(0)
    for k, (name, home) in enumerate(deployment.consortium.sites.items()):
        frame = pd.DataFrame(rng.standard_normal((12, 2)) + 9 * k, columns=["left", "right"])
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        with home.settings_file.open("a", encoding="utf-8") as file:
            file.write(f"\nfeatures: {tmp_path / name}.csv\n")
    table = "stages.table_combat.features=[left,right]"
    run = demo.submit(deployment.consortium, plan_of("name=tables", "rounds.n_rounds=0", table))
    demo.wait(run, TIMEOUT_S, lambda run: None)
    means = []
    for name, home in deployment.consortium.sites.items():
        [path] = home.runs.rglob(f"{name}.harmonized.csv")
        means.append(pd.read_csv(path).mean())
        assert [entry["kind"] for entry in left(home, run)] == ["sums"] * 4
    assert float(np.ptp(means, axis=0).max()) < 1

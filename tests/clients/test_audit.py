"""The audit of a final model: what its losses prove, and that a plan must ask for it."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedmri.clients.egress.audit import AT_LEAST, audit
from fedmri.clients.egress.border import declared_scores
from fedmri.config import load
from fedmri.errors import ConfigError
from fedmri.privacy.settings import PrivacyConfig
from fedmri.reports.pages.page import write_report
from fedmri.tasks.kinds.classification import Classification
from fedmri.wire import EvaluateOrder, TrainOrder
from tests.clients.conftest import MakeSite
from tests.clients.test_filtered import received
from tests.conftest import RunTiny
from tests.simulation.test_study import PRIVATE, SITES, records
from tests.training.conftest import TensorSite, make

AUDITED = (*PRIVATE, "privacy.is_audited=true")
TASK = Classification("sex", ("f", "m"))


def site_of_noise(n: int) -> TensorSite:
    """Return a site of noise with targets of chance, half of it held out."""
    source = torch.Generator().manual_seed(0)
    images = torch.randn(n, 1, 8, 8, generator=source)
    site = make(images, torch.randint(2, (n,), generator=source))
    assert isinstance(site, TensorSite)
    splits = ["train", "val", "train", "test"] * (n // 4)
    items = [replace(item, split=split) for item, split in zip(site.items, splits, strict=True)]  # type: ignore[arg-type]  # those three
    return replace(site, items=tuple(items))


def learned(site: TensorSite, n_steps: int) -> nn.Module:
    """Return a network after so many steps on the training patients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 64), nn.ReLU())
        network.append(nn.Linear(64, 2))
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        (batch,) = site.eval_batches("train", batch_size=1000)
        for _ in range(n_steps):
            optimizer.zero_grad()
            TASK.mean_loss(network(batch.image), batch.target).backward()  # type: ignore[no-untyped-call]  # torch leaves it so
            optimizer.step()
    return network


def test_a_model_that_learned_by_heart_proves_a_loss_and_a_new_one_does_not() -> None:
    """Patients who are told from others bound epsilon from below; the network stays as it is."""
    site = site_of_noise(400)
    network = learned(site, 100)
    before = copy.deepcopy(network.state_dict())
    found = audit(network, site, TASK, 1e-3, 0)
    assert found[AT_LEAST] > 1
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert audit(network, site, TASK, 1e-3, 0) == found
    assert audit(learned(site, 0), site, TASK, 1e-3, 0)[AT_LEAST] < 0.5


def test_losses_that_are_none_give_no_bound() -> None:
    """A broken model is not proven to be anything."""
    network = learned(site_of_noise(8), 0)
    with torch.no_grad():
        next(network.parameters()).fill_(math.nan)
    assert math.isnan(audit(network, site_of_noise(8), TASK, 1e-3, 0)[AT_LEAST])


def test_a_number_leaves_where_the_plan_asks_and_the_site_has_trained(make_site: MakeSite) -> None:
    """It is told with test scores of a site that took part, and declared at the border then."""
    plain, audited = make_site(*PRIVATE), make_site(*AUDITED)
    assert AT_LEAST not in declared_scores(plain.plan).metrics
    assert AT_LEAST in declared_scores(audited.plan).metrics
    sent = received(audited)
    assert AT_LEAST not in audited.evaluate(EvaluateOrder(0, "test", sent)).metrics
    audited.train(TrainOrder(1, received(audited)))
    assert audited.evaluate(EvaluateOrder(1, "test", sent)).metrics[AT_LEAST] == 0  # of nine
    assert AT_LEAST not in audited.evaluate(EvaluateOrder(1, "val", sent)).metrics
    assert AT_LEAST not in plain.evaluate(EvaluateOrder(2, "test", sent)).metrics


def test_an_audit_without_a_guarantee_is_refused() -> None:
    """There is nothing to test where nothing was promised."""
    with pytest.raises(ConfigError, match=r"privacy.is_audited.*\[C01\]"):
        PrivacyConfig(is_audited=True)


def test_the_report_of_a_private_simulation_has_both_bounds(run_tiny: RunTiny) -> None:
    """Each site has its epsilon and its audit in the page; nothing of it is a score."""
    folder = run_tiny("private", *AUDITED, "simulation.arms=[federated]")
    tests = records(folder, kind="test", arm="federated")
    assert {record["site"] for record in tests if AT_LEAST in record["metrics"]} == {*SITES}
    task = load(["experiment=smoke"]).plan.target
    text = write_report(folder, task)[0].read_text()
    last = records(folder, kind="round", round=2)
    assert {record["site"] for record in last} == {*SITES}
    for record in last:
        cells = f"{record['epsilon']:.3f}</td><td>{record['delta']:.2g}</td><td>0.000</td>"
        assert (
            f"federated, seed 0: {record['site']}</th><td>{cells}<td>no contradiction</td>" in text
        )

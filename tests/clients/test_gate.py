"""The gate of a real site: what it measures, what it holds back, and what it never touches."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from flwr.app import Context, Message, RecordDict

from fedmri.clients.app import SITE_FAILED
from fedmri.clients.egress.gate import Gate, gate_of
from fedmri.clients.egress.ledger import entries, verify
from fedmri.clients.process.flower import SuperNodeTask
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.worker import answer
from fedmri.clients.training.site import Site
from fedmri.data.batches.examples import PreparedSite
from fedmri.errors import PrivacyError, RoundError
from fedmri.plan import Plan
from fedmri.server.transport.flower import thin_bundle
from fedmri.stages.account import NothingLeaves
from fedmri.stages.stage import AtSite, Leaving
from fedmri.updates.filters import change_norm
from fedmri.wire import TrainOrder, bundle, content_of
from fedmri.wire.grid import SERVER_NODE, identify_task, sent
from tests.clients.conftest import MakeSite, Sign
from tests.clients.test_filtered import change_of, received
from tests.conftest import RunTiny

HELD_OUT = ("data.split.val=0.5", "data.split.test=0")
"""Of nine patients five train; told apart from the four others they score 0.22 at most."""

BY_HEART = (*HELD_OUT, "train.local_steps=60", "train.lr=0.01")
"""So many steps that the five are learned by heart."""


def bits_of(site: Site, round_index: int = 1) -> tuple[dict[str, bytes], dict[str, float]]:
    """Return the bytes and the metrics of a site's update."""
    update = site.train(TrainOrder(round_index, received(site)))
    numbers = {n: v for n, v in update.metrics.items() if n != "train_seconds"}
    return {name: value.numpy().tobytes() for name, value in update.weights.items()}, numbers


@pytest.mark.parametrize("strategy", ["fedavg", "fedbn"])
def test_measuring_changes_no_bit(make_site: MakeSite, tmp_path: Path, strategy: str) -> None:
    """The update and the random state are those of a site without a gate; a score is noted."""
    settings = (*HELD_OUT, f"strategy={strategy}", "model.norm=batch", "transport.dtype=bf16")
    plain = bits_of(make_site(*settings))
    gate = Gate(max_leakage=1, n_steps=5, ledger=tmp_path / "leakage.jsonl", run="brain")
    state = torch.random.get_rng_state()
    for _ in range(2):
        assert bits_of(make_site(*settings, gate=gate)) == plain
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second = entries(tmp_path / "leakage.jsonl")
    assert (first["run"], first["round"], first["is_released"]) == ("brain", 1, True)
    assert (first["membership"]["n_members"], first["membership"]["n_others"]) == (5, 4)
    changing = {"n", "time", "prev", "seconds"}
    assert {k: v for k, v in first.items() if k not in changing} == {
        k: v for k, v in second.items() if k not in changing
    }


def test_what_was_learned_by_heart_stays(
    make_site: MakeSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Losses name all five patients: 0.22 is above 0.2; the server would learn the code alone."""
    ledger = tmp_path / "leakage.jsonl"
    site = make_site(*BY_HEART, gate=Gate(max_leakage=0.2, n_steps=5, ledger=ledger))
    with (
        caplog.at_level(logging.INFO, "fedmri.client"),
        pytest.raises(PrivacyError, match=r"a score of 0.22.*area of 1.00.*\[P64\]") as caught,
    ):
        site.train(TrainOrder(1, received(site)))
    assert caught.value.public == "privacy error P64"
    assert "score of 0.22" in caplog.text
    (line,) = entries(ledger)
    assert (line["is_released"], line["membership"]["auc"]) == (False, 1.0)
    verify(ledger)
    assert not (tmp_path / "run/state").exists()


def test_too_few_patients_to_see_a_leak_let_nothing_out(make_site: MakeSite) -> None:
    """A perfect attack on five and four would score 0.22, so 0.3 cannot be tested; 1 tests none."""
    strict = make_site(*HELD_OUT, gate=Gate(max_leakage=0.3))
    with pytest.raises(PrivacyError, match=r"5 and 4 patients.* score 0.22.*\[P61\]"):
        bits_of(strict)
    alone = ("data.split.val=0", "data.split.test=0")
    with pytest.raises(PrivacyError, match=r"9 and 0 patients.*\[P61\]"):
        bits_of(make_site(*alone, gate=Gate(max_leakage=0.01)))
    bits_of(make_site(*alone, gate=Gate(max_leakage=1)))


def test_the_first_round_is_measured_and_then_every_few(
    make_site: MakeSite, tmp_path: Path
) -> None:
    """The first, and of the others those that the site draws: no server knows which.

    The draw depends on the bits of the order, and those of a network on the machine: so the
    orders here have names.
    """
    site = make_site(*HELD_OUT)
    data, weights = site.view.data, received(site)
    assert isinstance(data, PreparedSite)
    trained = site.train(TrainOrder(1, weights)).weights
    drawn = []
    for number, secret in enumerate((b"a", b"c", b"a")):
        ledger = tmp_path / f"leakage-{number}.jsonl"
        gate = Gate(max_leakage=1, every=3, n_steps=1, ledger=ledger, secret=secret)
        for i in range(1, 9):
            at = AtSite("a", site.plan, data, NothingLeaves(), i, site.view.network.module)
            order = f"order {i}"
            parameters = site.layout.parameters
            gate.outgoing(at, Leaving(weights, dict(trained), {}, parameters, partial(str, order)))
        drawn.append([line["round"] for line in entries(ledger)])
    assert [rounds[0] for rounds in drawn] == [1, 1, 1]
    assert drawn[0] == drawn[2] != drawn[1]
    assert all(1 < len(rounds) < 8 for rounds in drawn)


@pytest.mark.parametrize("update", ["weights", "difference"])
def test_an_update_beyond_the_norm_is_refused_and_a_clipped_one_is_not(
    make_site: MakeSite, update: str
) -> None:
    """What leaves is measured, after the filters: nothing is cut down by the gate itself."""
    transport = f"transport.update={update}"
    size = change_norm(change_of(make_site(transport))[0])
    bits_of(make_site(transport, gate=Gate(max_norm=size * 1.001)))
    tight = Gate(max_norm=size / 2)
    with pytest.raises(PrivacyError, match=r"a norm of .*\[P63\]"):
        bits_of(make_site(transport, gate=tight))
    bits_of(make_site(transport, f"filters.clip_norm={size / 2}", gate=tight))
    with pytest.raises(PrivacyError, match="P63"):
        bits_of(make_site(transport, f"filters.clip_norm={size / 2 * 1.001}", gate=tight))


def test_an_update_of_no_patient_passes(make_site: MakeSite) -> None:
    """A site without a training patient sends back what it was sent: there is nothing to find."""
    site = make_site(*HELD_OUT)
    data, sent_weights = site.view.data, received(site)
    assert isinstance(data, PreparedSite)
    nobody = replace(data, prepared=replace(data.prepared, scans=()))
    parameters = site.layout.parameters
    leaving = Leaving(sent_weights, sent_weights, {}, parameters, lambda: "order")
    gate = Gate(max_norm=1e-9, max_leakage=0.01)
    at = AtSite("a", site.plan, nobody, NothingLeaves(), 1, site.view.network.module)
    assert gate.outgoing(at, leaving) is leaving
    with pytest.raises(PrivacyError, match="P61"):
        gate.outgoing(replace(at, data=data), leaving)


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr's
def test_a_hospital_reads_its_gate_from_its_policy(
    home: ClientHome, plan: Plan, sign: Sign, make_site: MakeSite
) -> None:
    """The worker holds an update back by a limit of site.yaml, and tells the code."""
    policy = "is_approval_automatic: true\n  min_subjects_train: 1\n  max_update_norm: 1.0e-9\n"
    with home.settings_file.open("a") as file:
        file.write(f"policy:\n  {policy}")
    identify_task()
    content = bundle(content_of(TrainOrder(1, received(make_site()))))
    message = sent(Message(content, SERVER_NODE + 1, "train"))
    config = {"run": "brain", "signed-plan": sign(plan).to_json()}
    context = Context(1, 2, {}, RecordDict(), dict(config))
    reply = answer(home.folder, SuperNodeTask(message, context, thin_bundle()[0], None))  # type: ignore[arg-type]  # no SuperNode is asked
    assert (reply.error.code, reply.error.reason) == (SITE_FAILED, "privacy error P63")


def test_the_settings_of_a_gate_come_from_its_node(tmp_path: Path) -> None:
    """Each by its name, as text or number; without any the gate is open."""
    told = {"max-update-norm": 2.5, "max-leakage": "0.4", "leakage-every": "3"}
    told |= {"leakage-steps": 7, "leakage-ledger": "/own", "run": "brain"}
    assert gate_of(told, tmp_path, b"s") == Gate(2.5, 0.4, 3, 7, Path("/own"), "brain", b"s")
    assert gate_of({}, tmp_path, b"") == Gate(ledger=tmp_path)


@pytest.mark.parametrize(("secagg", "code"), [("false", "R01"), ("true", "P51")])
def test_a_simulation_measures_in_its_federated_arm(
    run_tiny: RunTiny, secagg: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores lie in the sites' folders, not in the run's records; a gate that is shut ends it."""
    monkeypatch.setattr(Gate, "n_steps", 5)  # how well an image is rebuilt is no matter here
    arms = ("simulation.arms=[federated,local]", "rounds.n_rounds=2")
    settings = (*HELD_OUT, *arms, f"secagg.is_on={secagg}", "filters.percentile=50")
    folder = run_tiny("a", *settings, "simulation.max_leakage=1", "simulation.leakage_every=1000")
    found = sorted(folder.glob("sites/*/*/seed-0/leakage.jsonl"))
    assert {path.parent.parent.name for path in found} == {"federated"}
    assert [line["round"] for line in entries(found[0])] == [1]
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all("score" not in record for record in records)
    with pytest.raises(RoundError, match=code):
        run_tiny("b", *settings, "simulation.max_leakage=0.9")

"""What a site does with an order: what is not signed, approved and declared never runs."""

from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from fedmri.agreement.signed_plan import PURPOSE, SignedPlan, sign_plan
from fedmri.clients.egress.ledger import entries
from fedmri.clients.process import worker
from fedmri.clients.process.flower import SuperNodeTask
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.worker import answer
from fedmri.clients.training.network import network_of
from fedmri.clients.training.own_data import PREPARED, n_prepared
from fedmri.models.weights import weights
from fedmri.plan import Plan, to_json
from fedmri.server.transport.flower import thin_bundle
from fedmri.wire import UPDATE, TrainOrder, bundle, content_of, read_answer, unbundle, unpack
from fedmri.wire.grid import SERVER_NODE, identify_task, sent
from tests.clients.conftest import OWN, Sign
from tests.test_signed_plan import key_pair

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr's

POLICY = "policy:\n  is_approval_automatic: true\n  min_subjects_train: 1\n"
Ask = Callable[..., Message]


class Bomb:
    """An object that leaves a file behind where it is unpickled."""

    marker = Path()

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        """Say what unpickling does."""
        return Path.touch, (self.marker,)


@pytest.fixture
def signed(plan: Plan, sign: Sign) -> SignedPlan:
    """Return the plan with the coordinator's signature."""
    return sign(plan)


@pytest.fixture
def content(plan: Plan) -> RecordDict:
    """Return what an order to train the plan's first round holds."""
    model = weights(network_of(to_json(plan)).module)
    return bundle(content_of(TrainOrder(1, {k: v.clone() for k, v in model.items()})))


@pytest.fixture
def ask(home: ClientHome, signed: SignedPlan, content: RecordDict) -> Ask:
    """Return a function that hands the worker an order, with something changed."""
    with home.settings_file.open("a") as file:
        file.write(POLICY)
    identify_task()

    def asked(
        records: Mapping[str, Any] | None = None,
        config: Mapping[str, str] | None = None,
        kind: str = "train",
        added: str | None = "",
    ) -> Message:
        whole = RecordDict({**content, **(records or {})})
        message = sent(Message(whole, SERVER_NODE + 1, kind))
        run_config = {"run": "brain", "signed-plan": signed.to_json()} | dict(config or {})
        context = Context(1, 2, {}, RecordDict(), dict(run_config))
        shipped = b"" if added is None else bundle_with(added)
        return answer(home.folder, SuperNodeTask(message, context, shipped, None))  # type: ignore[arg-type]  # no SuperNode is asked

    return asked


def of_order(**fields: Any) -> dict[str, ConfigRecord]:
    """Return an order's record with other fields."""
    return {"order": ConfigRecord({"json": json.dumps({"kind": "train", "round": 1} | fields)})}


def bundle_with(added: str) -> bytes:
    """Return the thin bundle, with a file of code added where it has a name."""
    buffer = io.BytesIO(thin_bundle()[0])
    with zipfile.ZipFile(buffer, "a") as archive:
        if added:
            archive.writestr(added, b"1/0")
    return buffer.getvalue()


def test_an_order_that_is_signed_approved_and_declared_is_answered(
    ask: Ask, home: ClientHome, plan: Plan, content: RecordDict
) -> None:
    """The update travels as one array a record, and counts the patients that trained."""
    reply = ask()
    assert {key: len(record) for key, record in reply.content.array_records.items()} == {"model": 1}
    update = read_answer(UPDATE, OWN, unbundle(reply.content))
    sent = unpack(unbundle(content).array_records["model"])
    assert {n: v.shape for n, v in update.weights.items()} == {n: v.shape for n, v in sent.items()}
    assert any(not torch.equal(value, sent[name]) for name, value in update.weights.items())
    (prepared,) = home.runs.rglob(PREPARED)
    n_train = n_prepared(prepared)["train"]
    assert 0 < n_train == update.n_subjects


def pickled(stype: str, data: bytes, name: str = "safetensors") -> dict[str, ArrayRecord]:
    """Return bytes in the place of the model."""
    return {"model": ArrayRecord({name: Array("float32", (1,), stype, data)})}


def saved(value: object) -> bytes:
    """Return an array of objects as NumPy writes it."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([value], dtype=object), allow_pickle=True)
    return buffer.getvalue()


ORDERS: dict[str, tuple[dict[str, Any], str]] = {
    "a further record": ({"records": {"code": ConfigRecord({"py": "print(1)"})}}, "P21"),
    "a further metric record": ({"records": {"m": MetricRecord({"x": 1.0})}}, "P21"),
    "arrays as order": ({"records": {"order": ArrayRecord()}}, "P21"),
    "words beside the order": ({"records": {"order": ConfigRecord({"json": "{}", "x": 1})}}, "P21"),
    "another kind": ({"kind": "query"}, "P21"),
    "another function": ({"kind": "train.other"}, "P21"),
    "a round beyond the plan": ({"records": of_order(round=10**6)}, "P21"),
    "a round below": ({"records": of_order(round=-1)}, "P21"),
    "a round without an end": ({"records": of_order(round=float("inf"))}, "P21"),
    "a further field": ({"records": of_order(prompt="print(1)")}, "P21"),
    "a field of another kind": ({"records": of_order(split="test")}, "P21"),
    "a kind that is none": ({"records": of_order(kind="tell-all")}, "P21"),
    "a notice in words": ({"records": of_order(left_out=[1, "\x1b[2J"])}, "P21"),
    "a round in words": ({"records": of_order(round="1")}, "P21"),
    "code in the bundle": ({"added": "fedmri/clients/app.py"}, "P20"),
    "code beside": ({"added": "sitecustomize.py"}, "P20"),
    "no bundle": ({"added": None}, "R05"),
    "a pickle": ({"records": pickled("safetensors", pickle.dumps(Bomb()))}, "R03"),
    "a pickle as array": ({"records": pickled("numpy.ndarray", pickle.dumps(Bomb()))}, "R03"),
    "an array of pickles": ({"records": pickled("numpy.ndarray", saved(Bomb()), "w")}, "R03"),
    "pickles as safe": ({"records": pickled("safetensors", saved(Bomb()))}, "R03"),
    "no plan": ({"config": {"signed-plan": ""}}, "N01"),
    "a plan without signature": ({"config": {"signed-plan": '{"text":"{}"}'}}, "N01"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_that_is_none_is_refused(
    name: str, ask: Ask, home: ClientHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code leaves and is in the ledger; nothing of it runs, and nothing is unpickled."""
    Bomb.marker = tmp_path / "unpickled"
    monkeypatch.setattr(worker, "app", lambda *_: pytest.fail("it ran"))
    change, code = ORDERS[name]
    reply = ask(**change)
    assert str(reply.error.reason).endswith(f"error {code}")
    (entry,) = entries(home.ledger)
    assert entry["kind"] == "error"
    assert not Bomb.marker.exists()


def test_an_order_without_a_plan_is_refused(ask: Ask, home: ClientHome) -> None:
    """A run of another app has neither of our keys."""
    reply = ask(config={"signed-plan": "{}", "run": ""})
    assert reply.error.reason == "network error N01"


def changed(signed: SignedPlan, how: str) -> SignedPlan:
    """Return the signed plan with one thing changed after it was signed."""
    text, signature = signed.text, base64.b64decode(signed.signature)
    flipped = base64.b64encode(bytes([signature[0] ^ 1]) + signature[1:]).decode()
    return {
        "one byte of the text": replace(signed, text=text.replace('"lr":', '"lR":')),
        "one bit of the signature": replace(signed, signature=flipped),
        "no signature": replace(signed, signature=""),
        "a space": replace(signed, text=text + " "),
    }[how]


@pytest.mark.parametrize(
    "how", ["one byte of the text", "one bit of the signature", "no signature", "a space"]
)
def test_a_plan_that_was_changed_is_refused(how: str, ask: Ask, signed: SignedPlan) -> None:
    """What the coordinator signed is, to the byte, what a site runs."""
    other = changed(signed, how)
    assert other != signed
    reply = ask(config={"signed-plan": other.to_json()})
    assert reply.error.reason == "network error N02"


def test_a_plan_that_another_signed_is_refused(ask: Ask, plan: Plan) -> None:
    """Whoever has the server but not the coordinator's key starts nothing."""
    reply = ask(config={"signed-plan": sign_plan(plan, key_pair(7)[0]).to_json()})
    assert reply.error.reason == "network error N02"


def test_a_plan_of_another_version_is_refused(
    ask: Ask, plan: Plan, coordinator: Ed25519PrivateKey
) -> None:
    """A setting that this version does not know is not passed over, though it is signed."""
    text = json.dumps(
        {"fedmri": "99.0", "plan": {**json.loads(to_json(plan)), "max_epsilon": 1.0}},
        sort_keys=True,
        separators=(",", ":"),
    )
    signature = base64.b64encode(coordinator.sign(PURPOSE + text.encode())).decode()
    reply = ask(config={"signed-plan": SignedPlan(text, signature).to_json()})
    assert reply.error.reason == "network error N03"

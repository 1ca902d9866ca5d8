"""The ClientApp behind its border: a real site trains, and nothing of a patient gets out."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Array, Context, Message, RecordDict

from fedmri.clients.app import app
from fedmri.clients.egress.ledger import entries, verify
from fedmri.clients.process.home import ClientHome
from fedmri.clients.training.network import network_of
from fedmri.clients.training.own_data import n_prepared, prepare_own
from fedmri.clients.training.site import Site
from fedmri.data.batches.site_data import Split
from fedmri.errors import DataError
from fedmri.models.weights import weights
from fedmri.plan import Plan, to_json
from fedmri.wire import SCORES, UPDATE, EvaluateOrder, TrainOrder, content_of, read_answer
from fedmri.wire.grid import SERVER_NODE, identify_task, sent
from tests.clients.conftest import OWN

CANARY = "Käthe Zweistein"
WHERE = f"/data/{CANARY} 1931-07-04/sub-zweistein_T1w.nii.gz"

Ask = Callable[..., Message]


def arrays_of(content: RecordDict) -> list[Array]:
    """Return all arrays of a message."""
    return [array for record in content.array_records.values() for array in record.values()]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Return where the ledger will be."""
    return tmp_path / "ledger/egress.jsonl"


@pytest.fixture
def ask(home: ClientHome, plan: Plan, cache: Path, ledger: Path, tmp_path: Path) -> Ask:
    """Return a function that sends an order to a real site and returns its answer."""
    prepared = prepare_own(home.config, plan, OWN, cache, tmp_path / "plan")
    node: dict[str, Any] = {
        "site": OWN,
        "prepared": json.dumps([str(prepared)]),
        "folder": str(prepared.parent),
        "ledger": str(ledger),
        "n_min_update": 1,
        "n_min": 1,
        "plan-sha256": "f" * 64,
        "run": "brain",
    }
    identify_task()

    def asked(kind: str, **limits: int) -> Message:
        model = weights(network_of(to_json(plan)).module)
        shared = {name: value.clone() for name, value in model.items()}
        if kind == "train":
            content = content_of(TrainOrder(3, shared))
        else:
            content = content_of(EvaluateOrder(3, kind, shared))
        message_type = "train" if kind == "train" else "evaluate"
        message = sent(Message(content, SERVER_NODE + 1, message_type))
        return app(message, Context(1, 2, node | limits, RecordDict(), {"plan": to_json(plan)}))

    return asked


@pytest.fixture
def used(ask: Ask, tmp_path: Path) -> dict[Split, int]:
    """Return how many patients of the site train, validate and test, from its prepared data."""
    (prepared,) = (tmp_path / "plan").rglob("prepared.json")
    return n_prepared(prepared)


def test_a_site_trains_and_writes_down_what_left(
    ask: Ask, ledger: Path, plan: Plan, used: dict[Split, int]
) -> None:
    """The server reads an update of the model's form; the ledger names its round and size."""
    update = read_answer(UPDATE, OWN, ask("train").content)
    assert update.weights.keys() == weights(network_of(to_json(plan)).module).keys()
    assert update.n_subjects == used["train"] > 0
    (entry,) = entries(ledger)
    assert (entry["kind"], entry["round"], entry["run"]) == ("update", 3, "brain")
    assert entry["n_bytes"] > sum(v.numel() * v.element_size() for v in update.weights.values())


def test_scores_over_too_few_patients_stay(ask: Ask, ledger: Path, used: dict[Split, int]) -> None:
    """As many as the limit are told, one fewer is neither scored nor counted."""
    told = read_answer(SCORES, OWN, ask("val").content)
    assert told.n_subjects == used["val"] > 0
    at_limit = read_answer(SCORES, OWN, ask("val", n_min=used["val"]).content)
    assert (at_limit.n_subjects, at_limit.metrics) == (told.n_subjects, told.metrics)
    withheld = read_answer(SCORES, OWN, ask("val", n_min=used["val"] + 1).content)
    assert (withheld.n_subjects, withheld.n_examples, dict(withheld.metrics)) == (0, 0, {})
    assert verify(ledger).n_entries == 3


@pytest.mark.parametrize(
    "case",
    [
        (DataError("D07", WHERE, found=CANARY, want="1931-07-04", fix=WHERE), "data error D07"),
        (OSError(28, "No space left on device", WHERE), "round error R05"),
        (ValueError(f"patient {CANARY}, born 1931-07-04"), "round error R05"),
    ],
)
def test_an_error_leaves_as_its_code(
    case: tuple[Exception, str],
    ask: Ask,
    ledger: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Name, path and date stay in the site's log: the message and the ledger hold the code."""
    error, code = case

    def fail(site: Site, order: TrainOrder) -> None:
        raise error

    monkeypatch.setattr(Site, "train", fail)
    with caplog.at_level(logging.ERROR):
        reply = ask("train")
    assert reply.error.reason == code
    assert CANARY in caplog.text
    assert "1931" not in f"{reply.error!r}{reply.metadata!r}"
    (entry,) = entries(ledger)
    assert (entry["kind"], entry["round"], entry["what"]) == ("error", 3, [code])
    assert "1931" not in ledger.read_text()


def test_no_word_of_a_patient_leaves(ask: Ask, own_scans: Path, tmp_path: Path) -> None:
    """Subjects, file names and the folder are in no byte of an update or of scores."""
    prepared = next((tmp_path / "plan").rglob("prepared.json"))
    table = (own_scans / "participants.tsv").read_text().splitlines()[1:]
    words = {row.split("\t")[0].removeprefix("sub-") for row in table} | {"T1w", str(own_scans)}
    assert all(word in prepared.read_text() + str(own_scans) + "T1w" for word in words)
    for kind in ("train", "val", "test"):
        content = ask(kind).content
        parts = [f"{name} {list(record)}" for name, record in content.items()]
        parts += [repr(dict(content[name])) for name in ("order", "metrics")]
        text = "".join(parts).encode()
        text += b"".join(array.data for array in arrays_of(content))
        # a subject's digits may stand in a longer number by chance
        found = [w for w in words if re.search(rf"(?<![\d.]){re.escape(w)}(?!\d)".encode(), text)]
        assert found == []

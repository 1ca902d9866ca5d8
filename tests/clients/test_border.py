"""The border: what is declared leaves unchanged, and nothing else ever does."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmri.clients.egress.border import (
    Border,
    Limits,
    declared_scores,
    declared_update,
    digest_of,
    public_of,
)
from fedmri.clients.egress.ledger import Ledger, entries, verify
from fedmri.errors import DataError, FedmriError, PrivacyError
from fedmri.plan import Plan
from fedmri.round import Layout, Update, Weights
from fedmri.strategies.averaging.scaffold import Scaffold
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task
from fedmri.training.settings import TrainConfig
from fedmri.updates.codec import declared
from fedmri.wire import SCORES, UPDATE, Scores, content_of, read_answer

PLAN = Plan(Classification("lesion", ("mass", "spots")))
SENT: Weights = {"w": torch.zeros(2, 3), "n": torch.tensor(0)}
TRAINED: Weights = {"w": torch.full((2, 3), 0.5), "n": torch.tensor(4)}
LAYOUT = Layout(frozenset({"w"}), frozenset(), frozenset())
FORMS = declared(SENT, PLAN.transport)
ALLOWED = declared_update(SENT, FORMS, PLAN, LAYOUT)
CANARY = "Mrs Käthe Zweistein, /data/sub-zweistein_1931-07-04/T1w.nii.gz"


@pytest.fixture
def hospital(tmp_path: Path) -> Border:
    """Return the border of a real site, with a ledger and the usual limits."""
    return Border("north", Limits(5, 5), Ledger(tmp_path / "egress.jsonl"), "f" * 64, "brain")


def update(n_subjects: int = 8, **changes: Any) -> RecordDict:
    """Return an answer to an order to train, with records added or replaced."""
    metrics = {"loss": 0.5, "n_steps": 3.0, "n_skipped": 0.0, "train_seconds": 1.5}
    content = content_of(Update("north", TRAINED, 16, n_subjects, metrics))
    for name, record in changes.items():
        content[name] = record
    return content


def model(**changes: Any) -> ArrayRecord:
    """Return the model record with entries added or replaced."""
    record: ArrayRecord = update().array_records["model"]
    for name, array in changes.items():
        record[name] = array
    return record


def pickled() -> Array:
    """Return an array whose bytes would run code if they were unpickled."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([[CANARY] * 3] * 2, dtype=object), allow_pickle=True)
    return Array("float32", (2, 3), "numpy.ndarray", buffer.getvalue())


def everything(content: RecordDict) -> bytes:
    """Return all that a message consists of, as bytes."""
    parts = []
    for name, record in content.items():
        parts.append(name.encode())
        for key, value in record.items():
            text = value.data if isinstance(value, Array) else repr(value).encode()
            parts += [key.encode(), text]
    return b"|".join(parts)


def test_a_declared_update_leaves_unchanged(hospital: Border) -> None:
    """The server reads what the site trained, to the bit."""
    received = read_answer(UPDATE, "north", hospital.admit(update(), ALLOWED, 1))
    assert torch.equal(received.weights["w"], TRAINED["w"])
    assert torch.equal(received.weights["n"], TRAINED["n"])
    assert (received.n_examples, received.n_subjects) == (16, 8)
    assert received.metrics == {"loss": 0.5, "n_steps": 3.0, "n_skipped": 0.0, "train_seconds": 1.5}


def test_what_a_strategy_declares_leaves_and_nothing_else_of_it(hospital: Border) -> None:
    """SCAFFOLD's control variate and ticket pass; a stray entry does not, nor their absence."""
    plain = TrainConfig(optimizer="sgd", momentum=0, clip_grad_norm=0)
    plan = replace(PLAN, strategy=Scaffold(), train=plain)
    allowed = declared_update(SENT, FORMS, plan, LAYOUT)
    control: dict[str, Weights] = {
        "control": {"w": torch.ones(2, 3)},
        "ticket": {"ticket": torch.tensor(7)},
    }
    content = content_of(Update("north", TRAINED, 16, 8, {"loss": 0.5}, control))
    received = read_answer(UPDATE, "north", hospital.admit(content, allowed, 1))
    assert torch.equal(received.extra["control"]["w"], torch.ones(2, 3))
    control["control"]["image"] = torch.ones(4, 4)
    strays = content_of(Update("north", TRAINED, 16, 8, {"loss": 0.5}, control))
    for odd in (strays, update(metrics=MetricRecord({"loss": 0.5}))):
        with pytest.raises(PrivacyError, match=r"\[P0[12]\]"):
            hospital.admit(odd, allowed, 1)


def test_a_simulation_hands_arrays_over_as_they_are() -> None:
    """Without a ledger nothing leaves the machine: no array becomes bytes."""
    leaving = Border("north").admit(update(), ALLOWED, 1).array_records
    assert torch.from_numpy(leaving["model"]["w"].numpy()).data_ptr() == TRAINED["w"].data_ptr()


REFUSED = {
    "a further config record": (update(notes=ConfigRecord({"text": CANARY})), "P01"),
    "a record for each patient": (update(cases=MetricRecord({"dice": [0.1, 0.9]})), "P01"),
    "a further array record": (update(8, **{"extra.images": model()}), "P01"),
    "a further entry": (update(model=model(images=Array(np.ones(4)))), "P01"),
    "a further metric": (update(metrics=MetricRecord({"sub-zweistein": 1.0})), "P01"),
    "a list as metric": (update(metrics=MetricRecord({"loss": [0.1, 0.2]})), "P02"),
    "a whole number as metric": (update(metrics=MetricRecord({"loss": 19310704})), "P02"),
    "a further count": (
        update(order=ConfigRecord({"json": '{"n_examples":1,"n_subjects":9,"age":91}'})),
        "P01",
    ),
    "a count in words": (
        update(order=ConfigRecord({"json": '{"n_examples":"Zweistein","n_subjects":9}'})),
        "P02",
    ),
    "a count that is a flag": (
        update(order=ConfigRecord({"json": '{"n_examples":true,"n_subjects":9}'})),
        "P02",
    ),
    "a count below 0": (
        update(order=ConfigRecord({"json": '{"n_examples":-1,"n_subjects":9}'})),
        "P02",
    ),
    "a count that is a message": (
        update(order=ConfigRecord({"json": f'{{"n_examples":{"9" * 4000},"n_subjects":9}}'})),
        "P02",
    ),
    "a text beside the counts": (
        update(order=ConfigRecord({"json": "{}", "note": CANARY})),
        "P02",
    ),
    "counts that are no JSON": (update(order=ConfigRecord({"json": CANARY})), "P02"),
    "counts that are a list": (update(order=ConfigRecord({"json": "[1, 2]"})), "P02"),
    "metrics as config": (update(metrics=ConfigRecord({"loss": 0.5})), "P02"),
    "another shape": (update(model=model(w=Array(np.ones((3, 2), np.float32)))), "P02"),
    "another type": (update(model=model(w=Array(np.ones((2, 3), np.float64)))), "P02"),
    "another format": (
        update(model=model(w=Array("float32", (2, 3), "pickle", b"\x80\x04K\x01."))),
        "P02",
    ),
    "a missing entry": (update(model=ArrayRecord({"w": Array(np.ones((2, 3), "f4"))})), "P02"),
}


@pytest.mark.parametrize("is_simulated", [False, True], ids=["hospital", "simulation"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_declared_is_refused(name: str, is_simulated: bool, hospital: Border) -> None:
    """A record, entry, metric or count besides the declared ones stops the whole answer."""
    content, code = REFUSED[name]
    border = Border("north") if is_simulated else hospital
    with pytest.raises(PrivacyError, match=rf"border.*\[{code}\]"):
        border.admit(content, ALLOWED, 1)


@pytest.mark.parametrize(
    "data",
    [pickled().data, b"", b"\x80\x04K\x01.", Array(np.ones((9, 9), "f4")).data],
    ids=["pickled", "empty", "a pickle", "another array than it says"],
)
def test_bytes_are_looked_at_before_they_leave(data: bytes, hospital: Border) -> None:
    """What an array says of itself is not believed: nothing pickled is passed on."""
    content = update(model=model(w=Array("float32", (2, 3), "numpy.ndarray", data)))
    with pytest.raises(PrivacyError, match=r"entry w at the border.*\[P02\]"):
        hospital.admit(content, ALLOWED, 1)


def test_nothing_rides_along_behind_an_array(hospital: Border) -> None:
    """Arrays are written anew: bytes after the last number, or odd spaces, do not leave."""
    array = Array(np.ones((2, 3), np.float32))
    stowaway = Array("float32", (2, 3), "numpy.ndarray", array.data + CANARY.encode())
    counts = '{"n_subjects": 8,   "n_subjects": 9, "n_examples": 16}'
    content = update(model=model(w=stowaway), order=ConfigRecord({"json": counts}))
    leaving = hospital.admit(content, ALLOWED, 1)
    assert leaving.array_records["model"]["w"].data == array.data
    assert leaving.config_records["order"]["json"] == '{"n_examples": 16, "n_subjects": 9}'


def test_a_nan_carries_nothing(hospital: Border) -> None:
    """A NaN has room for 51 bits of anything, and an infinity is as good as one: both are plain."""
    loaded = np.frombuffer(np.uint64(0x7FF8_DEAD_BEEF_0001).tobytes(), np.float64)[0]
    content = MetricRecord({"loss": float(loaded), "n_steps": math.inf})
    leaving = hospital.admit(update(metrics=content), ALLOWED, 1)
    plain = np.float64(math.nan).tobytes()
    metrics = leaving.metric_records["metrics"]
    assert [np.array(v, np.float64).tobytes() for v in metrics.values()] == [plain, plain]


def test_too_few_patients_send_no_update(hospital: Border) -> None:
    """The site's limit holds in each round, whatever was true at the start."""
    hospital.admit(update(5), ALLOWED, 1)
    with pytest.raises(PrivacyError, match=r"found 4, want 5 or more.*\[P03\]"):
        hospital.admit(update(4), ALLOWED, 2)


def test_an_update_over_few_patients_has_no_metrics(tmp_path: Path) -> None:
    """Where few may train, their loss still stays."""
    border = Border("north", Limits(2, 5), Ledger(tmp_path / "egress.jsonl"))
    received = read_answer(UPDATE, "north", border.admit(update(4), ALLOWED, 1))
    assert (received.n_subjects, received.metrics) == (4, {})


@pytest.mark.parametrize(("n_subjects", "is_told"), [(5, True), (4, False), (0, False)])
def test_scores_over_few_patients_are_withheld(
    n_subjects: int, is_told: bool, hospital: Border
) -> None:
    """The server learns that they are too few, and neither their number nor their scores."""
    scores = Scores("north", n_subjects, 20, {"accuracy": 0.25, "loss": 1.5})
    leaving = hospital.admit(content_of(scores), declared_scores(PLAN), 1)
    expected = scores if is_told else Scores("north", 0, 0, {})
    assert read_answer(SCORES, "north", leaving) == expected


@pytest.mark.parametrize(
    "target",
    [
        PLAN.target,
        Regression("age"),
        Segmentation("lesion", ("core",)),
        Segmentation("lesion", ("core", "oedema")),
    ],
    ids=["classification", "regression", "mask", "label map"],
)
def test_scores_of_every_task_are_declared(target: Task) -> None:
    """What a task computes over patients may leave; scores of a named patient may not."""
    plan = Plan(target)
    task = target
    metrics = {**task.metrics(()), "loss": 0.5, "seconds": 1.0}
    for name in target.label_map.classes if target.label_map else ():
        metrics |= {f"dice_{name}": 0.5, f"hd95_mm_{name}": 3.0}
    content = content_of(Scores("a", 9, 9, metrics))
    assert set(Border("a").admit(content, declared_scores(plan), 1)["metrics"]) == set(metrics)
    content.metric_records["metrics"]["dice_sub-zweistein"] = 0.5
    with pytest.raises(PrivacyError, match=r"\[P01\]"):
        Border("a").admit(content, declared_scores(plan), 1)


def test_scores_have_no_model(hospital: Border) -> None:
    """An answer to an order to evaluate holds no weights."""
    with pytest.raises(PrivacyError, match=r"'model'.*\[P01\]"):
        hospital.admit(update(), declared_scores(PLAN), 1)


def test_each_message_is_in_the_ledger(hospital: Border) -> None:
    """An auditor sees what left in which round, with its size and digest, errors among it."""
    assert hospital.ledger is not None
    leaving = hospital.admit(update(), ALLOWED, 3)
    hospital.admit_error(DataError("D07", CANARY, found="1", want="2", fix="3"), 4)
    first, second = entries(hospital.ledger.path)
    digest, n_bytes = digest_of(leaving)
    assert (first["kind"], first["round"], first["sha256"]) == ("update", 3, digest)
    assert first["n_bytes"] == n_bytes > 2 * 3 * 4
    assert first["what"][0] == "model: 2 arrays"
    assert (first["plan"], first["run"], first["epsilon"]) == ("f" * 64, "brain", None)
    assert (second["kind"], second["round"], second["what"]) == ("error", 4, ["data error D07"])
    assert verify(hospital.ledger.path).n_entries == 2


def test_a_refused_answer_is_not_in_the_ledger(hospital: Border) -> None:
    """What did not leave is not counted as having left."""
    assert hospital.ledger is not None
    with pytest.raises(PrivacyError, match=r"\[P01\]"):
        hospital.admit(update(notes=ConfigRecord({"text": CANARY})), ALLOWED, 1)
    assert list(entries(hospital.ledger.path)) == []


def test_the_digest_is_of_the_bytes_that_leave(hospital: Border) -> None:
    """Who has both the message and the ledger can compare them: one weight decides."""
    leaving = hospital.admit(update(), ALLOWED, 1)
    changed = hospital.admit(update(), ALLOWED, 1)
    assert digest_of(leaving) == digest_of(changed)
    changed.array_records["model"]["n"] = Array(np.array(5))
    assert digest_of(leaving) != digest_of(changed)


def test_the_digest_is_of_the_numbers_and_not_of_their_order_in_memory(hospital: Border) -> None:
    """A transposed tensor holds the same weights: the server, which copies, finds the digest."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    orders = [values, np.asfortranarray(values)]
    leaving = [hospital.admit(update(model=model(w=Array(v))), ALLOWED, 1) for v in orders]
    assert digest_of(leaving[0]) == digest_of(leaving[1])


class PatientError(FedmriError):
    """An error whose public half was filled by mistake."""

    def __init__(self) -> None:
        super().__init__("D07", CANARY, found=CANARY, want=CANARY, fix=CANARY)
        self.public = f"data error D07 {CANARY}"


@pytest.mark.parametrize(
    ("error", "public"),
    [
        (DataError("D07", CANARY, found=CANARY, want=CANARY, fix=CANARY), "data error D07"),
        (FileNotFoundError(2, "No such file", CANARY), "round error R05"),
        (KeyError(CANARY), "round error R05"),
        (PatientError(), "round error R05"),
        (DataError(CANARY, "x", found="x", want="x", fix="x"), "round error R05"),
        (DataError("Z99", "x", found="x", want="x", fix="x"), "round error R05"),
    ],
    ids=["fedmri's", "file", "key", "public half", "code", "unknown code"],
)
def test_of_an_error_only_a_known_code_leaves(
    error: Exception, public: str, hospital: Border
) -> None:
    """A name, a path and a date in an error's text, public half or code stay at the site."""
    error.add_note(CANARY)
    assert public_of(error) == hospital.admit_error(error, 1) == public


def test_an_error_is_told_even_where_it_cannot_be_written_down(tmp_path: Path) -> None:
    """The server learns why a site is silent; a code is all that goes unrecorded."""
    (tmp_path / "ledger").write_text("a file where the folder should be")
    border = Border("north", ledger=Ledger(tmp_path / "ledger/egress.jsonl"))
    with pytest.raises(PrivacyError, match=r"\[P07\]") as caught:
        border.admit(update(), ALLOWED, 1)
    assert border.admit_error(caught.value, 1) == "privacy error P07"


ARRAYS = st.builds(
    lambda dtype, shape: Array(np.full(shape, 7, dtype)),
    st.sampled_from(["f4", "f8", "i8", "u1", "?"]),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
)
TEXTS = st.sampled_from(["w", "n", "json", "loss", "dice", "seconds", CANARY, "n_steps", ""])
NUMBERS = st.one_of(st.integers(-9, 99), st.floats(), st.lists(st.floats(), max_size=2))
COUNTS = st.dictionaries(TEXTS, st.one_of(st.integers(-2, 20), TEXTS), max_size=3)
WORDS = st.one_of(TEXTS, st.integers(-9, 99), st.binary(max_size=4), COUNTS.map(json.dumps))
RECORDS = st.one_of(
    st.dictionaries(TEXTS, ARRAYS, max_size=3).map(ArrayRecord),
    st.dictionaries(TEXTS, NUMBERS, max_size=3).map(lambda values: MetricRecord(dict(values))),
    st.dictionaries(TEXTS, WORDS, max_size=2).map(lambda values: ConfigRecord(dict(values))),
)
NAMES = st.sampled_from(["model", "order", "metrics", "extra.c", CANARY])


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(NAMES, RECORDS, max_size=3), n_subjects=st.integers(0, 9))
def test_whatever_the_records_the_answer_is_declared_or_refused(
    changes: dict[str, Any], n_subjects: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However records are mixed, what gets through has the declared form and no word in it."""
    path = tmp_path_factory.getbasetemp() / "fuzzed/egress.jsonl"
    border = Border("north", Limits(2, 5), Ledger(path))
    try:
        leaving = border.admit(update(n_subjects, **changes), ALLOWED, 1)
    except PrivacyError as error:
        assert error.code in {"P01", "P02", "P03"}  # noqa: PT017  # the other way out is checked too
        return
    received = read_answer(UPDATE, "north", leaving)
    assert {n: (v.dtype, v.shape) for n, v in received.weights.items()} == {
        n: (v.dtype, v.shape) for n, v in SENT.items()
    }
    assert received.extra == {}
    assert set(received.metrics) <= {"loss", "n_steps", "n_skipped", "train_seconds"}
    assert received.n_subjects >= 2
    assert received.metrics == {} or received.n_subjects >= 5
    assert b"Zweistein" not in everything(leaving)
    assert b"Zweistein" not in path.read_bytes()

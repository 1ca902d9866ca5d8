"""What travels: the same values on both sides, and nothing that could run code."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from safetensors.numpy import save

from fedmri.errors import RoundError
from fedmri.round import Update, Weights
from fedmri.wire import (
    EVALUATE,
    SCORES,
    TRAIN,
    UPDATE,
    EvaluateOrder,
    LazyArray,
    Scores,
    TrainOrder,
    bundle,
    content_of,
    n_bytes,
    pack,
    put_together,
    read_answer,
    read_order,
    take_apart,
    unbundle,
    unpack,
)

MODEL: Weights = {
    "w": torch.tensor([[1.5, -0.0], [float("nan"), 3.0]]),
    "n": torch.tensor(7),
    "e": torch.zeros(0, 3, dtype=torch.float64),
}


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Return whether names, types, shapes and bits are the same."""
    return list(first) == list(second) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        for a, b in zip(first.values(), second.values(), strict=True)
    )


def over_a_network(record: ArrayRecord) -> ArrayRecord:
    """Return what the other side makes of the bytes that Flower would send of each array."""
    received = ArrayRecord()
    for name, array in record.items():
        received[name] = Array(array.dtype, tuple(array.shape), array.stype, bytes(array.data))
    return received


def test_weights_survive_in_one_process_without_a_copy() -> None:
    """In one process the receiver looks at the sender's memory."""
    received = unpack(pack(MODEL))
    assert same(received, MODEL)
    assert received["w"].data_ptr() == MODEL["w"].data_ptr()


def test_weights_survive_a_network_to_the_bit() -> None:
    """As .npy bytes: signed zeros, NaN, empty and 0-dimensional entries too."""
    assert same(unpack(over_a_network(pack(MODEL))), MODEL)


def test_a_lazy_array_is_an_array_to_flower() -> None:
    """Flower writes the class name into the message; the other side must know it."""
    array = LazyArray(np.ones(3, dtype=np.float32))
    restored = Array.inflate(array.deflate(), children=array.children)
    assert np.array_equal(restored.numpy(), np.ones(3))


def test_a_pickled_array_is_refused() -> None:
    """An array of objects would run its sender's code when loaded."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    record = ArrayRecord({"w": Array("object", (1,), "numpy.ndarray", buffer.getvalue())})
    with pytest.raises(RoundError, match=r"entry w.*\[R03\]"):
        unpack(record)


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"\x80\x04K\x01.", b"nonsense" * 9])
def test_bytes_that_are_no_array_are_refused(data: bytes) -> None:
    """Truncated, pickled or other bytes give one error, not a crash."""
    record = ArrayRecord({"w": Array("float32", (1,), "numpy.ndarray", data)})
    with pytest.raises(RoundError, match=r"\[R03\]"):
        unpack(record)


def test_an_order_to_train_reads_back() -> None:
    """Round, weights and further weights by name."""
    order = read_order(content_of(TrainOrder(3, MODEL, {"control": MODEL})), TRAIN)
    assert order.round_index == 3
    assert same(order.weights, MODEL)
    assert same(order.extra["control"], MODEL)


def test_an_order_to_evaluate_reads_back() -> None:
    """Round, split, pictures and weights."""
    order = read_order(content_of(EvaluateOrder(9, "test", MODEL, 2)), EVALUATE)
    assert (order.round_index, order.split, order.n_pictures) == (9, "test", 2)
    assert same(order.weights, MODEL)


def test_an_update_is_of_the_site_that_answered() -> None:
    """A site cannot speak for another: its name is not in the message."""
    update = Update("liar", MODEL, 5, 2, {"loss": 0.5}, {"control": MODEL})
    received = read_answer(UPDATE, "honest", content_of(update))
    assert (received.site, received.n_examples, received.n_subjects) == ("honest", 5, 2)
    assert received.metrics == {"loss": 0.5}
    assert same(received.weights, MODEL)
    assert same(received.extra["control"], MODEL)
    assert "liar" not in repr(content_of(update))


def test_scores_read_back() -> None:
    """Aggregates and counts."""
    scores = Scores("a", 4, 40, {"dice": 0.25})
    assert read_answer(SCORES, "a", content_of(scores)) == scores


@pytest.mark.parametrize("broken", ["no model", "no metrics", "no order", "words", "negative"])
def test_an_answer_without_its_records_is_refused(broken: str) -> None:
    """A missing or odd record is the site's fault and is named as such."""
    content = content_of(Update("a", {"w": torch.ones(1)}, 1, 1))
    if broken in {"no model", "no metrics", "no order"}:
        del content[broken.removeprefix("no ")]
    elif broken == "words":
        content["metrics"] = MetricRecord({"loss": [1.0, 2.0]})
    else:
        content["order"] = ConfigRecord({"json": '{"n_examples": -1, "n_subjects": 1}'})
    with pytest.raises(RoundError, match=r"site a.*\[R03\]"):
        read_answer(UPDATE, "a", content)


def test_content_is_taken_apart_and_put_together() -> None:
    """Engines move arrays by shared memory and the rest by pipe."""
    content = content_of(Update("a", MODEL, 5, 2, {"loss": 0.5}, {"c": MODEL}))
    skeleton, arrays = take_apart(content)
    again = put_together(skeleton, {name: value.clone() for name, value in arrays.items()})
    assert isinstance(again, RecordDict)
    received = read_answer(UPDATE, "a", again)
    assert same(received.weights, MODEL)
    assert same(received.extra["c"], MODEL)
    assert received.metrics == {"loss": 0.5}


def test_bytes_are_those_of_the_values() -> None:
    """Four float32, one int64 and nothing."""
    assert n_bytes(MODEL) == 4 * 4 + 8


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.int64, torch.int8, torch.uint16]
)
def test_a_bundle_is_undone_to_the_bit(dtype: torch.dtype) -> None:
    """Names, types, shapes and bytes survive; a bundle holds one array however many went in."""
    weights = {"b": torch.arange(6).reshape(2, 3).to(dtype), "a": torch.tensor(3).to(dtype)}
    content = content_of(TrainOrder(4, weights))
    bundled = bundle(content)
    assert len(bundled.array_records["model"]) == 1
    order = read_order(unbundle(bundled), TRAIN)
    assert order.round_index == 4
    assert order.weights.keys() == weights.keys()
    for name, value in weights.items():
        assert order.weights[name].dtype == dtype
        assert torch.equal(order.weights[name], value)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x04K\x01.", b"\xff" * 64, save({"w": np.zeros(3)})[:-1]],
    ids=["empty", "pickle", "noise", "cut"],
)
def test_a_bundle_that_is_none_is_refused(data: bytes) -> None:
    """Whatever bytes a site sends are read as safetensors or not at all."""
    content = RecordDict()
    content["model"] = ArrayRecord()
    content.array_records["model"]["safetensors"] = Array(
        "uint8", (len(data),), "safetensors", data
    )
    with pytest.raises(RoundError, match=r"record model.*\[R03\]"):
        unbundle(content)


def test_arrays_outside_a_bundle_are_refused() -> None:
    """A record that holds anything beside the one array is not what was agreed."""
    with pytest.raises(RoundError, match=r"record model.*\[R03\]"):
        unbundle(content_of(TrainOrder(1, {"w": torch.zeros(3)})))

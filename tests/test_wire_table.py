"""The table of messages: each kind reads back to the bit, and nothing beside its fields passes.

All cases are made from the table: a kind that is added there is tested here without a line.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmri.clients.egress.border import Border, Declared
from fedmri.errors import PrivacyError, RoundError
from fedmri.round import Form, Update
from fedmri.wire import (
    KINDS,
    METRICS,
    ORDER,
    SECURE_STEP,
    TRAIN,
    MessageKind,
    SecureStep,
    SumsOrder,
    bundle,
    content_of,
    put_together,
    read_answer,
    read_order,
    refuse_undeclared_order,
    take_apart,
    unbundle,
    unpack,
    with_notice,
)
from fedmri.wire.kinds import (
    KIND,
    NOTICE,
    ArrayGroupsField,
    ArraysField,
    Field,
    Group,
    MetricsField,
    WholeField,
    WordField,
)

Kind = MessageKind[Any]
ORDERS = [kind for kind in KINDS if kind.is_order]
ANSWERS = [kind for kind in KINDS if not kind.is_order]
EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
EACH_ORDER = pytest.mark.parametrize("kind", ORDERS, ids=lambda kind: kind.name)
EACH_ANSWER = pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.name)

# --- messages of any kind -------------------------------------------------------------------------

DTYPES = st.sampled_from(["float32", "float64", "float16", "int64", "uint8", "uint64", "bool"])
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
LETTERS = st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters="/")
NAMES = st.text(LETTERS, max_size=8)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Draw a tensor of any type, shape and bits."""
    dtype, shape = np.dtype(draw(DTYPES)), draw(SHAPES)
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = draw(st.binary(min_size=n_bytes, max_size=n_bytes))
    if dtype == np.bool_:
        raw = bytes(byte & 1 for byte in raw)
    return torch.from_numpy(np.frombuffer(bytearray(raw), dtype).reshape(shape))


ARRAYS = st.dictionaries(NAMES, tensors(), max_size=3)


def values(field: Field) -> st.SearchStrategy[Any]:
    """Return what a field may hold."""
    match field:
        case WholeField():
            return st.integers(field.low, field.high)
        case WordField():
            return st.sampled_from(sorted(field.words))
        case ArraysField():
            return ARRAYS
        case ArrayGroupsField():
            return st.dictionaries(NAMES, ARRAYS, max_size=2)
        case MetricsField():
            names = NAMES if field.names is None else st.sampled_from(sorted(field.names))
            return st.dictionaries(names, st.floats(allow_nan=False), max_size=3)
    raise AssertionError(field)


def attributes(fields: tuple[Any, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Return what the attributes of a message, or of a group in it, may be."""
    by_name = {}
    for one in fields:
        if isinstance(one, Group):
            build: Callable[..., object] = one.build
            own = attributes(one.fields).map(lambda given, build=build: build(**given))  # type: ignore[misc]  # mypy reads the default as an argument
            by_name[one.attribute] = st.none() | own
        else:
            by_name[one.attribute] = values(one)
    return st.fixed_dictionaries(by_name)


def messages(kind: Kind) -> st.SearchStrategy[Any]:
    """Return messages of a kind."""
    known = {} if kind.is_order else {"site": "a"}
    return attributes(kind.fields).map(lambda given: kind.made(**known, **given))


def sample_value(field: Field) -> Any:
    """Return a value that a field may hold."""
    arrays = {"w": torch.ones(2)}
    match field:
        case WholeField():
            return field.low
        case WordField():
            return min(field.words)
        case ArraysField():
            return arrays
        case ArrayGroupsField():
            return {"control": arrays}
        case MetricsField():
            return {min(field.names or {"dice"}): 0.5}
    raise AssertionError(field)


def sample(kind: Kind, n_groups: int = 9) -> Any:
    """Return a message of a kind, with its first so many groups."""
    given: dict[str, Any] = {} if kind.is_order else {"site": "a"}
    for one in kind.fields:
        if isinstance(one, Field):
            given[one.attribute] = sample_value(one)
        elif n_groups > 0:
            given[one.attribute] = one.build(**{f.attribute: sample_value(f) for f in one.fields})
            n_groups -= 1
    return kind.made(**given)


def read(kind: Kind, content: RecordDict) -> Any:
    """Return what the receiver of a message reads."""
    return read_order(content, kind) if kind.is_order else read_answer(kind, "a", content)


def bits(value: object) -> object:
    """Return a value in a form that compares to the bit."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, Mapping):
        return {name: bits(each) for name, each in value.items()}
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return type(value), {name: bits(getattr(value, name)) for name in names}
    return value


def plain(content: RecordDict) -> dict[str, Any]:
    """Return the plain fields of a message."""
    fields: dict[str, Any] = json.loads(str(content.config_records[ORDER]["json"]))
    return fields


def with_plain(content: RecordDict, fields: Mapping[str, Any]) -> RecordDict:
    """Return a message with other plain fields."""
    content[ORDER] = ConfigRecord({"json": json.dumps(dict(fields))})
    return content


def in_plain(field: Field) -> bool:
    """Tell whether a field travels among the plain ones."""
    return isinstance(field, WholeField | WordField)


def refused(kind: Kind, content: RecordDict) -> None:
    """Assert that the receiver refuses a message, whatever way it comes."""
    error, match = (PrivacyError, r"\[P21\]") if kind.is_order else (RoundError, r"\[R03\]")
    with pytest.raises(error, match=match):
        read(kind, content)
    if kind.is_order:
        with pytest.raises(PrivacyError, match=match):
            refuse_undeclared_order(kind.message_type, bundle(content))
    else:
        at_the_border(kind, content)


def at_the_border(kind: Kind, content: RecordDict) -> None:
    """Assert that an answer does not leave its site."""
    with pytest.raises(PrivacyError, match=r"border.*\[P0[12]\]"):
        Border("a").admit(content, declared(kind), 1)


def declared(kind: Kind) -> Declared:
    """Return what the sample of a kind of answer may hold."""
    content = content_of(sample(kind))
    forms = {
        record: {n: Form(t.dtype, tuple(t.shape)) for n, t in unpack(arrays).items()}
        for record, arrays in content.array_records.items()
    }
    metrics = frozenset(content.metric_records[METRICS]) if kind.has_metrics else frozenset()
    return Declared(kind, metrics, forms)


# --- the table itself -----------------------------------------------------------------------------


@EACH_KIND
def test_every_attribute_of_a_message_is_declared(kind: Kind) -> None:
    """One that is not would be lost on the way; the site's name alone is known without it."""
    known = set() if kind.is_order else {"site"}
    found = {one.attribute for one in kind.fields}
    assert found | known == {field.name for field in dataclasses.fields(kind.of)}


@EACH_KIND
def test_no_two_fields_of_a_message_have_one_name(kind: Kind) -> None:
    """A record that two fields would read is not clear, nor one that a group's prefix matches."""
    names = [field.name for field in kind.leaves]
    prefixes = tuple(field.name for field in kind.leaves if isinstance(field, ArrayGroupsField))
    assert len(set(names)) == len(names)
    assert [n for n in names if n not in prefixes and prefixes and n.startswith(prefixes)] == []
    assert {KIND, NOTICE.name, ORDER} & set(names) == set()


def test_every_kind_is_told_from_all_others() -> None:
    """By its name and by its class; each sort of Flower's messages has its kinds."""
    assert len({kind.name for kind in KINDS}) == len({kind.of for kind in KINDS}) == len(KINDS)
    types = {MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY}
    assert {kind.message_type for kind in ORDERS} == types


# --- what is declared -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@EACH_KIND
@given(data=st.data())
def test_a_message_reads_back_to_the_bit(kind: Kind, data: st.DataObject) -> None:
    """In one process, over a network, and between the processes of a simulation."""
    message = data.draw(messages(kind))
    content = content_of(message)
    assert bits(read(kind, content)) == bits(message)
    assert bits(read(kind, put_together(*take_apart(content)))) == bits(message)
    assert bits(read(kind, unbundle(bundle(content)))) == bits(message)


def test_what_a_secure_sum_hides_is_of_its_round() -> None:
    """One round is on the wire, and the sums inside the step have it too."""
    step = SecureStep(5, 1, "share", {}, SumsOrder(2, {}, {}, 5))
    assert plain(content_of(step))["round"] == 5
    assert read_order(content_of(step), SECURE_STEP) == step


@EACH_ORDER
@pytest.mark.parametrize("n_groups", [0, 1])
def test_a_notice_rides_on_any_order(kind: Kind, n_groups: int) -> None:
    """It changes nothing of the order, and the site's worker lets it in."""
    message = sample(kind, n_groups)
    content = with_notice(content_of(message), (3, "R42"))
    refuse_undeclared_order(kind.message_type, bundle(content))
    assert bits(read(kind, content)) == bits(message)


@EACH_ANSWER
def test_a_declared_answer_leaves_its_site(kind: Kind) -> None:
    """The server reads what the site wrote."""
    leaving = Border("a").admit(content_of(sample(kind)), declared(kind), 1)
    assert bits(read(kind, leaving)) == bits(sample(kind))


# --- what is not ----------------------------------------------------------------------------------


@EACH_KIND
@pytest.mark.parametrize("n_groups", [0, 1])
def test_a_field_that_is_not_declared_is_refused(kind: Kind, n_groups: int) -> None:
    """A word of nobody's, and each plain field that other kinds declare."""
    foreign = {field.name for other in KINDS for field in other.leaves if in_plain(field)}
    own = {field.name for field in kind.leaves} | ({NOTICE.name} if kind.is_order else set())
    for name in sorted({"prompt", "", NOTICE.name, *foreign} - own):
        content = content_of(sample(kind, n_groups))
        refused(kind, with_plain(content, {**plain(content), name: 1}))


RECORDS = (
    ConfigRecord({"text": "1931-07-04"}),
    MetricRecord({"dice": 0.5}),
    ArrayRecord({"safetensors": Array(np.ones(2))}),
)


@EACH_KIND
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_that_is_not_declared_is_refused(kind: Kind, record: Any) -> None:
    """Under a name of nobody's, and under each that other kinds declare."""
    foreign = {field.name for other in KINDS for field in other.leaves if not in_plain(field)}
    own = {field.name for field in kind.leaves}
    for name in sorted({"code", "", *foreign} - own):
        refused(kind, RecordDict({**content_of(sample(kind)), name: record}))


@EACH_KIND
def test_a_record_of_another_sort_is_refused(kind: Kind) -> None:
    """Words, or numbers with names, in the place of arrays; and arrays in the place of words."""
    for name, there in content_of(sample(kind)).items():
        for record in RECORDS:
            if type(record) is not type(there):
                refused(kind, RecordDict({**content_of(sample(kind)), name: record}))


@EACH_KIND
@pytest.mark.parametrize("n_groups", [0, 1])
def test_a_message_without_a_declared_part_is_refused(kind: Kind, n_groups: int) -> None:
    """Each plain field and each record in turn; of a group, all or none."""
    whole = content_of(sample(kind, n_groups))
    for name in plain(whole):
        left = {key: value for key, value in plain(whole).items() if key != name}
        refused(kind, with_plain(content_of(sample(kind, n_groups)), left))
    groups = tuple(field.name for field in kind.leaves if isinstance(field, ArrayGroupsField))
    for name in whole:
        if not (groups and name.startswith(groups)):  # of these there may be none
            refused(kind, RecordDict({key: whole[key] for key in whole if key != name}))


def beyond(field: Field) -> list[Any]:
    """Return values that a plain field may not have."""
    if isinstance(field, WholeField):
        numbers = [field.low - 1, field.high + 1, float("inf"), float("nan")]
        return [*numbers, 1.0, True, "1", None, [1], {"low": 1}]
    return ["", "tell-all", min(getattr(field, "words", {""})).upper(), 1, None, []]


@EACH_KIND
def test_a_value_beyond_what_is_declared_is_refused(kind: Kind) -> None:
    """Another type, a flag for a number, a number out of bounds, a word of nobody's."""
    for field in kind.leaves:
        for value in beyond(field) if in_plain(field) else ():
            content = content_of(sample(kind))
            refused(kind, with_plain(content, {**plain(content), field.name: value}))


@EACH_KIND
def test_words_for_the_plain_fields_are_refused(kind: Kind) -> None:
    """No JSON, JSON of something else, too deep JSON, and an entry beside it."""
    texts = ["", "x", "[1]", "1", "null", "[" * 10**5, '{"a": ' * 10**5]
    records = [ConfigRecord({"json": text}) for text in texts]
    records += [ConfigRecord({"json": "{}", "x": 1}), ConfigRecord({"json": b"{}"})]
    for record in (*records, ConfigRecord({}), ConfigRecord({"json": [1, 2]})):
        refused(kind, RecordDict({**content_of(sample(kind)), ORDER: record}))


@EACH_ORDER
def test_an_order_is_read_as_its_own_kind_alone(kind: Kind) -> None:
    """Its kind is in it: none pretends to be another, nor comes by another function."""
    for other in ORDERS:
        if other is not kind:
            content = content_of(sample(other))
            with pytest.raises(PrivacyError, match=r"\[P21\]"):
                read(kind, content)
            with pytest.raises(PrivacyError, match=r"\[P21\]"):
                read(kind, with_plain(content, {**plain(content), KIND: kind.name}))


@EACH_ANSWER
def test_an_answer_of_another_kind_is_refused(kind: Kind) -> None:
    """The server reads what it asked for, and nothing else leaves."""
    for other in ANSWERS:
        if other is not kind:
            refused(kind, content_of(sample(other)))


@pytest.mark.parametrize("notice", [(5, "Z99"), (-1, "R42"), (True, "R42"), (5, "\x1b[2J"), (5,)])
def test_a_notice_of_something_else_is_refused(notice: Any) -> None:
    """A server writes no text of its own into a site's log."""
    refused(TRAIN, with_notice(content_of(sample(TRAIN)), notice))


@pytest.mark.parametrize("kind", [k for k in ANSWERS if k.has_metrics], ids=lambda k: k.name)
@pytest.mark.parametrize(
    "metrics",
    [
        {"dice": [0.1, 0.9]},
        {"dice": 19310704},
        {"a\nb": 1.0},
        {"x" * 101: 1.0},
        {f"m{i}": 0.0 for i in range(1001)},
    ],
    ids=["list", "whole number", "line end", "long name", "too many"],
)
def test_metrics_that_are_none_are_refused(kind: Kind, metrics: Any) -> None:
    """One number each, under a name that can be shown."""
    content = content_of(sample(kind))
    refused(kind, RecordDict({**content, METRICS: MetricRecord(dict(metrics))}))


@EACH_KIND
def test_a_writer_refuses_what_its_reader_would(kind: Kind) -> None:
    """A value out of bounds is found where it is made, and not by the other party."""
    message = sample(kind)
    for field in kind.fields:
        for value in beyond(field) if isinstance(field, Field) and in_plain(field) else ():
            with pytest.raises(ValueError, match="as field"):
                content_of(dataclasses.replace(message, **{field.attribute: value}))


def test_a_writer_refuses_a_metric_that_is_not_declared() -> None:
    """An update tells what the table says, at the site already."""
    with pytest.raises(ValueError, match="metric 'age'"):
        content_of(Update("a", {}, 1, 1, {"age": 91.0}))

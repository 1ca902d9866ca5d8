"""The one writer and the one reader of messages, by the table of their kinds.

Plain fields travel as JSON, arrays as records of their own, metrics as a record. The reader takes
what the kind declares and refuses the message where anything else is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, overload

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedmri.errors import CODES, PrivacyError, RoundError, told
from fedmri.wire.arrays import pack, unpack
from fedmri.wire.kinds import (
    KIND,
    KINDS,
    LARGEST_NUMBER,
    METRICS,
    NOTICE,
    ORDER,
    SECURE_STEP,
    ArrayGroupsField,
    ArraysField,
    Field,
    Group,
    MessageKind,
    MetricsField,
    NoticeField,
    WholeField,
    WordField,
)

JSON = "json"
"""The one entry of the record of plain fields."""
MOST_METRICS, LONGEST_NAME = 1000, 100

A = TypeVar("A")
B = TypeVar("B")


class UndeclaredError(ValueError):
    """A message holds a record, a field or a metric that its kind does not declare."""


class MalformedError(ValueError):
    """A declared part of a message is missing, or is not what the table says."""


_NOT_OURS = (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError)
"""What comes of reading records that were made by somebody else's program."""


def content_of(message: object) -> RecordDict:
    """Return the content of a message, of the records and fields that its kind declares.

    An answer does not name its site: the server knows who answered.

    Raises:
        ValueError: A value is beyond what the table allows.
    """
    kind = next(one for one in KINDS if isinstance(message, one.of))
    content = RecordDict()
    plain: dict[str, Any] = {KIND: kind.name} if kind.is_order else {}
    for field, value in _values_of(kind.fields, message):
        match field:
            case ArraysField():
                content[field.name] = pack(value)
            case ArrayGroupsField():
                for name, arrays in value.items():
                    content[f"{field.name}{name}"] = pack(arrays)
            case MetricsField():
                content[field.name] = MetricRecord({n: float(v) for n, v in value.items()})
                metrics_of(content, field.names)
            case _:
                _refuse_value(field, value)
                plain[field.name] = value
    content[ORDER] = as_plain_record(plain)
    return content


def _values_of(
    fields: tuple[Field | Group, ...] | tuple[Field, ...], of: object
) -> Iterator[tuple[Field, Any]]:
    for one in fields:
        value = getattr(of, one.attribute)
        if isinstance(one, Field):
            yield one, value
        elif value is not None:
            yield from _values_of(one.fields, value)


@overload
def read_order(content: RecordDict, kind: MessageKind[A], /) -> A: ...
@overload
def read_order(content: RecordDict, kind: MessageKind[A], other: MessageKind[B], /) -> A | B: ...
def read_order(content: RecordDict, /, *kinds: MessageKind[Any]) -> Any:
    """Return the order in a message.

    Args:
        content: Of the message.
        kinds: What it may be.

    Raises:
        PrivacyError: It is none of these, or holds what they do not declare (P21).
        RoundError: An array is none (R03).
    """
    try:
        return _read(_kind_of(content, kinds), content)
    except _NOT_OURS as error:
        raise no_order(str(error)) from error


def refuse_undeclared_order(message_type: str, content: RecordDict) -> None:
    """Refuse an order before its arrays are looked at: by its kind, records and plain fields.

    Raises:
        PrivacyError: No kind of order declares it (P21).
    """
    kinds = [kind for kind in KINDS if kind.is_order and kind.message_type == message_type]
    if not kinds:
        raise no_order(f"one of type {message_type!r}")
    try:
        plain_fields(_kind_of(content, kinds), content)
    except _NOT_OURS as error:
        raise no_order(str(error)) from error


def read_answer(kind: MessageKind[A], site: str, content: RecordDict) -> A:
    """Return a site's answer; the site is known from who answered, not from what it says.

    Raises:
        RoundError: A record is missing, not declared or no array of numbers (R03).
    """
    try:
        return _read(kind, content, site=site)
    except _NOT_OURS as error:
        fix = "update fedmri at that site; both sides must run the same version"
        what, want = f"answer of site {site}", "the declared records"
        raise RoundError("R03", what, found=told(error), want=want, fix=fix) from error


def _kind_of(content: RecordDict, kinds: Any) -> MessageKind[Any]:
    name = _plain(content).get(KIND)
    for kind in kinds:
        if kind.name == name:
            return kind  # type: ignore[no-any-return]  # kinds are one or two, see read_order
    raise MalformedError(f"an order of kind {name!r}")


def _read(kind: MessageKind[A], content: RecordDict, **known: Any) -> A:
    plain = plain_fields(kind, content)
    return kind.made(**known, **_attributes(kind.fields, plain, content))


def _attributes(
    fields: tuple[Field | Group, ...] | tuple[Field, ...],
    plain: Mapping[str, Any],
    content: RecordDict,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in fields:
        if isinstance(one, Group):
            is_there = _is_there(one, plain, content)
            own = _attributes(one.fields, plain, content) if is_there else {}
            found[one.attribute] = one.build(**own) if is_there else None
        else:
            found[one.attribute] = _value(one, plain, content)
    return found


def _value(field: Field, plain: Mapping[str, Any], content: RecordDict) -> Any:
    match field:
        case ArraysField():
            return unpack(content.array_records[field.name])
        case ArrayGroupsField():
            return {
                name.removeprefix(field.name): unpack(record)
                for name, record in content.array_records.items()
                if name.startswith(field.name)
            }
        case MetricsField():
            return metrics_of(content, field.names)
        case _:
            return plain[field.name]


def plain_fields(kind: MessageKind[Any], content: RecordDict) -> dict[str, Any]:
    """Return the plain fields of a message, once its records and these are what is declared.

    Arrays are not looked at, so content that is bundled for a network passes too.

    Raises:
        UndeclaredError: A record or a field is not declared.
        MalformedError: A declared one is missing, or is not what the table says.
    """
    found = _plain(content)
    if kind.is_order:
        found.pop(KIND, None)  # the kind was chosen by it
    there = list(_declared(kind, found, content))
    _refuse_records(there, content)
    plain = {leaf.name: leaf for leaf in there if not _has_record(leaf)}
    if kind.is_order and NOTICE.name in found:
        plain[NOTICE.name] = NOTICE
    if strays := sorted(found.keys() - plain.keys()):
        raise UndeclaredError(f"field {strays[0]!r}")
    for name, field in plain.items():
        if name not in found:
            raise MalformedError(f"no field {name!r}")
        _refuse_value(field, found[name])
    return {name: found[name] for name in plain}


def _declared(
    kind: MessageKind[Any], plain: Mapping[str, Any], content: RecordDict
) -> Iterator[Field]:
    """Yield the fields that a message must have, given which groups are in it."""
    for one in kind.fields:
        if isinstance(one, Field):
            yield one
        elif _is_there(one, plain, content):
            yield from one.fields


def _is_there(group: Group, plain: Mapping[str, Any], content: RecordDict) -> bool:
    return any(
        field.name in content if isinstance(field, ArraysField) else field.name in plain
        for field in group.fields
    )


def _has_record(field: Field) -> bool:
    return isinstance(field, ArraysField | ArrayGroupsField | MetricsField)


def _refuse_records(declared: list[Field], content: RecordDict) -> None:
    wanted: dict[str, type] = {ORDER: ConfigRecord}
    wanted |= {leaf.name: ArrayRecord for leaf in declared if isinstance(leaf, ArraysField)}
    wanted |= {leaf.name: MetricRecord for leaf in declared if isinstance(leaf, MetricsField)}
    prefixes = tuple(leaf.name for leaf in declared if isinstance(leaf, ArrayGroupsField))
    for name, record in content.items():
        sort = wanted.get(name, ArrayRecord if prefixes and name.startswith(prefixes) else None)
        if sort is None:
            raise UndeclaredError(f"record {name!r}")
        if not isinstance(record, sort):
            raise MalformedError(f"{type(record).__name__} as record {name!r}")
    if missing := sorted(wanted.keys() - content.keys()):
        raise MalformedError(f"no record {missing[0]!r}")


def _refuse_value(field: Field, value: object) -> None:
    match field:
        case WholeField():
            is_good = type(value) is int and field.low <= value <= field.high
        case WordField():
            is_good = isinstance(value, str) and value in field.words
        case NoticeField():
            is_good = _is_notice(value)
        case _:
            is_good = False
    if not is_good:
        raise MalformedError(f"{str(value)[:LONGEST_NAME]!r} as field {field.name!r}")


def _is_notice(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    round_index, code = value
    is_round = type(round_index) is int and 0 <= round_index <= LARGEST_NUMBER
    return is_round and isinstance(code, str) and code in CODES


def metrics_of(content: RecordDict, names: frozenset[str] | None) -> dict[str, float]:
    """Return the metrics of a message.

    Args:
        content: Of the message.
        names: Which there may be; None allows any.

    Raises:
        UndeclaredError: One is not declared.
        MalformedError: One is not a single number, or its name cannot be written down and shown.
    """
    record = content[METRICS]
    if not isinstance(record, MetricRecord):
        raise MalformedError(f"{type(record).__name__} as record {METRICS!r}")
    if names is not None and (strays := sorted(record.keys() - names)):
        raise UndeclaredError(f"metric {strays[0]!r}")
    is_plain = all(len(name) <= LONGEST_NAME and name.isprintable() for name in record)
    if len(record) > MOST_METRICS or not is_plain:
        raise MalformedError("names of metrics that are none")
    if odd := [name for name, value in record.items() if type(value) is not float]:
        raise MalformedError(f"metric {odd[0]!r} that is not one number")
    return {name: float(value) for name, value in record.items()}  # type: ignore[arg-type]  # floats, see above


def _plain(content: RecordDict) -> dict[str, Any]:
    record = content.get(ORDER)
    if not isinstance(record, ConfigRecord) or list(record) != [JSON]:
        raise MalformedError(f"record {ORDER!r} that is not one text of JSON")
    try:
        found = json.loads(str(record[JSON]))
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"record {ORDER!r} that is no JSON") from error
    if not isinstance(found, dict):
        raise MalformedError(f"a {type(found).__name__} for plain fields")
    return found


def as_plain_record(fields: Mapping[str, Any]) -> ConfigRecord:
    """Return plain fields as the record that they travel in."""
    return ConfigRecord({JSON: json.dumps(dict(fields))})


def round_of(content: RecordDict) -> int | None:
    """Return the round that a message names, or None where it cannot be read."""
    try:
        found = _plain(content).get("round")
    except _NOT_OURS:
        return None
    return found if type(found) is int else None


def is_secure_step(content: RecordDict) -> bool:
    """Tell whether a message is a step of a secure sum besides its values."""
    try:
        return bool(_plain(content).get(KIND) == SECURE_STEP.name)
    except _NOT_OURS:
        return False


def with_notice(content: RecordDict, left_out: tuple[int, str] | None) -> RecordDict:
    """Return an order that also tells a site in which round its update was left out or joined."""
    if left_out is not None:
        content[ORDER] = as_plain_record({**_plain(content), NOTICE.name: list(left_out)})
    return content


def notice_of(content: RecordDict) -> tuple[int, str] | None:
    """Return the round and the code of a site's last update, if it was left out or came late."""
    found: Any = _plain(content).get(NOTICE.name)
    return (found[0], found[1]) if _is_notice(found) else None


def no_order(found: str) -> PrivacyError:
    """Return the error of an order that no plan and no kind of order has (P21)."""
    want = "an order to train, evaluate or add up, for a round of the plan, and nothing besides"
    fix = "run the same version of fedmri as the server; if it is, ask the coordinator"
    return PrivacyError("P21", "order of the server", found=found, want=want, fix=fix)

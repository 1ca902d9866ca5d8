"""The table of messages: each kind of order and of answer, and the fields that it declares.

Writer, reader, a site's border and its worker derive from this table: a field that is not in it
neither leaves nor enters. A kind of message is added here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from flwr.app import MessageType

from fedmri.round import Update
from fedmri.wire.messages import (
    EvaluateOrder,
    Masking,
    Scores,
    SecureAnswer,
    SecureStep,
    Sums,
    SumsOrder,
    TrainOrder,
)

ORDER, METRICS = "order", "metrics"
"""Record of the plain fields of a message, as JSON; record of its metrics."""
KIND = "kind"
"""Plain field of every order: the name of its kind."""
MODEL, EXTRA = "model", "extra."
"""Record of a model's entries; how the records of what goes beside it begin."""
FITTED = "stage."
"""How the records begin that hold what was fitted for a stage; its name follows."""
START = "start"
"""Record beside a model of the entries of the first one that no round brings to a site."""
MASKED = "masked"
"""The one entry of what a secure sum hides a site's values in."""
ADAPTED = "is_adapted"
"""Metric beside scores: 1 where the model was adapted to the images that are scored."""
TRAIN_METRICS = frozenset(
    {
        *("loss", "n_steps", "n_seen", "n_skipped", "train_seconds"),
        *("epsilon", "delta", "site_epsilon"),
    }
)
LARGEST_NUMBER = (1 << 31) - 1
"""No round, step, number of a sum or count of examples or subjects is larger."""

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Field:
    """A declared field of a message.

    Attributes:
        name: What it is called on the wire.
        attribute: Attribute of the message that it holds.
    """

    name: str
    attribute: str


@dataclass(frozen=True)
class WholeField(Field):
    """A whole number, among the plain fields."""

    low: int = 0
    high: int = LARGEST_NUMBER


@dataclass(frozen=True)
class WordField(Field):
    """One of a few words, among the plain fields."""

    words: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ArraysField(Field):
    """A record of arrays, ``name``."""


@dataclass(frozen=True)
class ArrayGroupsField(Field):
    """Any number of records of arrays whose names begin with ``name``."""


@dataclass(frozen=True)
class MetricsField(Field):
    """The record of metrics.

    Attributes:
        names: Which there may be; None where the plan decides it, see a site's border.
    """

    names: frozenset[str] | None = None


@dataclass(frozen=True)
class NoticeField(Field):
    """Round and code of the site's last update, where it was left out or late, as a plain field."""


NOTICE = NoticeField("left_out", "")
"""A field that an order of any kind may carry; it is for the site's people, and in no message."""


@dataclass(frozen=True)
class Group:
    """Fields that are there together or not at all.

    Attributes:
        attribute: Attribute of the message that holds them, or None.
        build: What they make.
        fields: The fields; no group is among them.
    """

    attribute: str
    build: Callable[..., object]
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class MessageKind(Generic[T_co]):
    """A kind of message.

    Attributes:
        name: What it is called on the wire, and in a site's ledger.
        of: Class of the message.
        fields: What it holds, and nothing else.
        message_type: Flower's type of an order; "" for an answer.
        build: What makes the message of its attributes, where ``of`` does not.
    """

    name: str
    of: type[T_co]
    fields: tuple[Field | Group, ...]
    message_type: str = ""
    build: Callable[..., T_co] | None = None

    @property
    def is_order(self) -> bool:
        """Whether the server sends it."""
        return bool(self.message_type)

    @property
    def leaves(self) -> tuple[Field, ...]:
        """All fields, those of groups among them."""
        return tuple(_leaves(self.fields))

    @property
    def has_metrics(self) -> bool:
        """Whether it has the record of metrics."""
        return any(isinstance(leaf, MetricsField) for leaf in self.leaves)

    def made(self, **attributes: Any) -> T_co:
        """Return the message with these attributes."""
        return (self.build or self.of)(**attributes)


def _leaves(fields: tuple[Field | Group, ...]) -> Iterator[Field]:
    for one in fields:
        yield from one.fields if isinstance(one, Group) else (one,)


def _secure_step(*, sums: SumsOrder | None = None, **attributes: Any) -> SecureStep:
    """Return a step of a secure sum; what it hides is of the same round."""
    of_round = sums and replace(sums, round_index=attributes["round_index"])
    return SecureStep(**attributes, sums=of_round)


_ROUND = WholeField("round", "round_index")
_MODEL, _EXTRA = ArraysField(MODEL, "weights"), ArrayGroupsField(EXTRA, "extra")
_MASKING = Group(
    "masking", Masking, (WholeField("number", "number"), ArraysField("boxes", "arrays"))
)
_SUMMED = (
    WholeField("number_of_stage", "stage"),
    WholeField("step", "step"),
    ArraysField("shared", "shared"),
    _MODEL,
    _EXTRA,
)
_COUNTS = (WholeField("n_examples", "n_examples"), WholeField("n_subjects", "n_subjects"))

TRAIN = MessageKind(
    "train",
    TrainOrder,
    (WholeField("round", "round_index", low=1), _MODEL, _EXTRA, _MASKING),
    MessageType.TRAIN,
)
EVALUATE = MessageKind(
    "evaluate",
    EvaluateOrder,
    (
        _ROUND,
        WordField("split", "split", frozenset({"val", "test"})),
        WholeField("n_pictures", "n_pictures"),
        _MODEL,
        _EXTRA,
    ),
    MessageType.EVALUATE,
)
ADD_UP = MessageKind("add-up", SumsOrder, (_ROUND, *_SUMMED, _MASKING), MessageType.QUERY)
SECURE_STEP = MessageKind(
    "secure-step",
    SecureStep,
    (
        _ROUND,
        WholeField("number", "number"),
        WordField("stage", "stage", frozenset({"advertise", "share", "reveal"})),
        ArraysField("parties", "arrays"),
        Group("sums", SumsOrder, _SUMMED),
    ),
    MessageType.QUERY,
    _secure_step,
)
UPDATE = MessageKind(
    "update", Update, (*_COUNTS, MetricsField(METRICS, "metrics", TRAIN_METRICS), _MODEL, _EXTRA)
)
SCORES = MessageKind("scores", Scores, (*_COUNTS, MetricsField(METRICS, "metrics")))
SUMS = MessageKind("sums", Sums, (*_COUNTS, ArraysField("sums", "arrays")))
KEYS = MessageKind("keys", SecureAnswer, (*_COUNTS, ArraysField("keys", "arrays")))

KINDS: tuple[MessageKind[Any], ...] = (
    *(TRAIN, EVALUATE, ADD_UP, SECURE_STEP),
    *(UPDATE, SCORES, SUMS, KEYS),
)
"""All kinds of messages: four orders, and the answer to each."""

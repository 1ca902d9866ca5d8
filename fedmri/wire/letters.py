"""What a letter of the mailbox says: the fields of an order or an answer, and Flower's records."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TypeVar

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from google.protobuf.message import DecodeError
from pydantic import TypeAdapter, ValidationError

from fedmri.errors import NetworkError

N_LENGTH = 4
TAKEN_BACK = -1
"""Code of a second answer to an order that was refused: people there took the refusal back."""


@dataclass(frozen=True)
class OrderHead:
    """The fields of an order beside its records.

    Attributes:
        site: Who is asked.
        run: Name of the run.
        plan: The signed plan, as JSON.
        number: Larger than that of every earlier order of the run.
        id: Of the order; its answer bears it.
        kind: Flower's type of message.
        reply_key: P-384 key that answers are sealed for, PEM; made for this run.
    """

    site: str
    run: str
    plan: str
    number: int
    id: str
    kind: str
    reply_key: str


@dataclass(frozen=True)
class AnswerHead:
    """The fields of an answer: the order's id, and the code and text of an error, or none.

    The code is Flower's, or ``TAKEN_BACK``.
    """

    id: str
    code: int = 0
    reason: str = ""


Head = TypeVar("Head", OrderHead, AnswerHead)


def as_letter(head: OrderHead | AnswerHead, content: RecordDict | None) -> bytes:
    """Return the bytes that ``read_letter`` reads."""
    text = json.dumps(asdict(head), sort_keys=True).encode()
    body = b"" if content is None else recorddict_to_proto(content).SerializeToString()
    return len(text).to_bytes(N_LENGTH, "big") + text + body


def read_letter(letter: bytes, kind: type[Head]) -> tuple[Head, RecordDict]:
    """Return the fields and the records of a letter that was opened.

    Raises:
        NetworkError: It says something else (N40).
    """
    n = int.from_bytes(letter[:N_LENGTH], "big")
    text, body = letter[N_LENGTH : N_LENGTH + n], letter[N_LENGTH + n :]
    try:
        head = TypeAdapter(kind).validate_json(text, strict=True)
        return head, recorddict_from_proto(ProtoRecordDict.FromString(body))
    except (ValidationError, DecodeError, ValueError, TypeError, KeyError) as error:
        fix = "run the same version of fedmri on both sides"
        found, want = type(error).__name__, f"the fields of {kind.__name__} and records"
        raise NetworkError("N40", "letter", found=found, want=want, fix=fix) from None

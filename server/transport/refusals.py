"""What a site says instead of an answer: not now, or not at all, and why."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import Message

from fedmri.server.registry.attendance import PUT_OFF, State
from fedmri.wire import code_said, reason_of

SILENT = "R05"


@dataclass(frozen=True)
class PutOff:
    """What a site said that may still say yes.

    Attributes:
        at: When it put its answer off.
        again: When it is asked again.
        pause_s: Time between the two.
        code: What it said.
        is_last_word: Whether that holds: it has not kept a newer order for a while since.
    """

    at: float
    again: float
    pause_s: float
    code: str
    is_last_word: bool = True


def code_of(reply: Message | None) -> str:
    """Return the fedmri code at the end of an error's public text; any other failure is R05."""
    return code_said(_text(reply)) or SILENT


def is_put_off(reply: Message) -> bool:
    """Tell whether a site may still say yes: nobody has approved yet, or it trains later."""
    return reply.has_error() and code_of(reply) in PUT_OFF.values()


def state_of(code: str) -> State:
    """Return where a site stands that puts its answer off, by the code of its reply."""
    return next(state for state, own in PUT_OFF.items() if own == code)


def reason_told(reply: Message | None) -> str:
    """Return why a site refuses a run, where its people tell it; printable and short."""
    return reason_of(_text(reply))


def _text(reply: Message | None) -> str:
    return str(reply.error.reason) if reply is not None and reply.has_error() else ""

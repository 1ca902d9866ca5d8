"""What a site says instead of an answer: not now, or not at all, and why."""

from __future__ import annotations

from flwr.app import Message

from fedmri.errors import CODES
from fedmri.server.registry.attendance import PUT_OFF
from fedmri.wire import reason_of

SILENT = "R05"


def code_of(reply: Message | None) -> str:
    """Return the fedmri code at the end of an error's public text; any other failure is R05."""
    last = _text(reply).split(" ")[-1]
    return last if last in CODES else SILENT


def is_put_off(reply: Message) -> bool:
    """Tell whether a site may still say yes: nobody has approved yet, or it trains later."""
    return reply.has_error() and code_of(reply) in PUT_OFF.values()


def reason_told(reply: Message | None) -> str:
    """Return why a site refuses a run, where its people tell it; printable and short."""
    return reason_of(_text(reply))


def _text(reply: Message | None) -> str:
    return str(reply.error.reason) if reply is not None and reply.has_error() else ""

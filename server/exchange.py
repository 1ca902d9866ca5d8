"""Orders out, answers in: one at a time and in the order of sites, over any Flower grid."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedmri.errors import RoundError
from fedmri.server.asking import UNREADABLE, Asking, present
from fedmri.wire import bundle, unbundle

log = logging.getLogger("fedmri.server")


@dataclass(frozen=True)
class Answer:
    """What came back from a site: content, or the code of what went wrong."""

    site: str
    content: RecordDict | None
    code: str = "ok"
    seconds: float = 0.0


@runtime_checkable
class StreamingGrid(Protocol):
    """A grid that runs clients while the server takes their answers one by one."""

    def stream(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the reply to each message, in order; each is valid until the next is taken."""
        ...


def exchange(
    grid: Grid, kind: str, content: RecordDict, names: Sequence[str], timeout_s: float
) -> Iterator[Answer]:
    """Send the same order to every site and yield the answers in ascending order of site.

    Args:
        grid: Flower's grid, in this process or of a deployment.
        kind: Message type, such as ``train``.
        content: What each site is sent.
        names: Sites that are asked.
        timeout_s: Longest wait since the last answer; who has not answered by then is ``R05``.
    """
    order = sorted(names)
    is_bundled = not isinstance(grid, StreamingGrid)
    replies = _replies(grid, kind, content, order, timeout_s)
    for site in order:
        # not a name is kept of what is handed on: it is gone before the next one is taken
        yield _taken(site, replies, is_bundled=is_bundled)
    next(replies, None)  # so that the grid can put away the last one


def _taken(site: str, replies: Iterator[Message | None], *, is_bundled: bool) -> Answer:
    started = time.monotonic()
    reply = next(replies)
    return _answer(site, reply, time.monotonic() - started, is_bundled=is_bundled)


def _replies(
    grid: Grid, kind: str, content: RecordDict, order: Sequence[str], timeout_s: float
) -> Iterator[Message | None]:
    if isinstance(grid, StreamingGrid):
        nodes = present(grid)
        ids = [nodes[site].node_id for site in order]
        # a receiver in this process may edit its message; the arrays inside are shared
        return grid.stream(_message(_own_shell(content), i, kind, timeout_s) for i in ids)
    # what waits for its turn must outlive every wait of this exchange
    ttl = timeout_s * (len(order) + 1)
    asking = Asking(grid, lambda i: _message(bundle(content), i, kind, ttl), order, timeout_s)
    return asking.replies()


def _message(content: RecordDict, node_id: int, kind: str, ttl: float) -> Message:
    return Message(content, node_id, kind, ttl=ttl, group_id=kind)


def _own_shell(content: RecordDict) -> RecordDict:
    return RecordDict({key: record.copy() for key, record in content.items()})


def _answer(site: str, reply: Message | None, seconds: float, *, is_bundled: bool) -> Answer:
    if reply is None:
        return Answer(site, None, "R05", seconds)
    if reply.has_error():
        return Answer(site, None, _code(reply.error.reason), seconds)
    try:
        content = unbundle(reply.content) if is_bundled else reply.content
    except RoundError as error:
        log.warning("site %s: %s", site, error)
        return Answer(site, None, error.code, seconds)
    except UNREADABLE as error:
        log.warning("answer of site %s is none: %r", site, error)
        return Answer(site, None, "R03", seconds)
    return Answer(site, content, "ok", seconds)


def _code(reason: str | None) -> str:
    """Return the fedmri code at the end of an error's public text; any other failure is R05."""
    last = (reason or "").split(" ")[-1]
    is_code = len(last) == 3 and last[0].isalpha() and last[1:].isdigit()
    return last if is_code else "R05"

"""Orders out, answers in: one at a time and in the order of sites, over any Flower grid."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedmri.errors import RoundError
from fedmri.server.registry.attendance import Attendance
from fedmri.server.registry.nodes import present
from fedmri.server.rounds.first_values import FirstValues
from fedmri.server.transport.asking import (
    UNREADABLE,
    UNREADABLE_CODE,
    Asking,
    Taken,
    Terms,
)
from fedmri.server.transport.refusals import code_of
from fedmri.wire import EXTRA, START, bundle, unbundle, with_notice

log = logging.getLogger("fedmri.server")

TTL_S = 3600.0
"""Life of a message within this process: nothing there looks at it."""


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


@dataclass(frozen=True)
class Exchanges:
    """The exchanges of a run, over a grid of this process or of a deployment.

    Attributes:
        grid: Flower's grid.
        timeout_s: Longest time from an order to its last answer.
        attendance: What is known of the sites from one order to the next.
        first: Entries of the first model that sites keep.
    """

    grid: Grid
    timeout_s: float
    attendance: Attendance = field(default_factory=Attendance)
    first: FirstValues = field(default_factory=FirstValues)

    def ask(
        self, kind: str, content: RecordDict, names: Sequence[str], n_needed: int = 0
    ) -> Iterator[Answer]:
        """Send the same order to every site; yield the answers in ascending order of site.

        Args:
            kind: Message type, such as ``train``.
            content: What each site is sent.
            names: Sites that are asked.
            n_needed: Answers without which nothing comes of it.

        Yields:
            Answers. Who gave none in time has the code R05, P11 where nobody there has approved
            the plan, or P19 where it trains at other hours.
        """
        order = sorted(names)
        if isinstance(self.grid, StreamingGrid):
            # not a name is kept of what is handed on: it is gone before the next one is taken
            is_sent = _has_first(content)
            replies = _stream(self.grid, kind, content, order)
            for site in order:
                yield self._noted(_streamed(site, replies), is_sent=is_sent)
            next(replies, None)  # so that the grid can put away the last one
            return
        yield from self.ask_each(lambda _: content, order, Terms(kind, self.timeout_s, n_needed))

    def ask_each(
        self, content_for: Callable[[str], RecordDict], names: Sequence[str], terms: Terms
    ) -> Iterator[Answer]:
        """Send every site of a deployment an order of its own; yield the answers as ``ask`` does.

        Args:
            content_for: Gives what a site is sent.
            names: Sites that are asked, in ascending order.
            terms: How long, and when it is over earlier.
        """
        is_sent: dict[str, bool] = {}

        def make(site: str, node_id: int) -> Message:
            content = content_for(site)
            is_sent[site] = _has_first(content)
            own = with_notice(bundle(content), self.attendance.told.get(site))
            # what waits on the disk of SuperLink must outlive every wait for it
            ttl = terms.n_timeouts * terms.timeout_s
            return Message(own, node_id, terms.kind, ttl=ttl, group_id=terms.kind)

        taken = Asking(self.grid, make, names, terms, self.attendance).replies()
        for site in names:
            # in this order: what was sent is known once the site was waited for
            yield self._noted(_unbundled(site, taken), is_sent=is_sent.get(site, False))
        next(taken, None)  # so that it can put away what is left

    def _noted(self, answer: Answer, *, is_sent: bool) -> Answer:
        self.first.note(answer.site, is_sent=is_sent, is_answered=answer.content is not None)
        return answer


def _has_first(content: RecordDict) -> bool:
    return f"{EXTRA}{START}" in content


def exchange(
    grid: Grid, kind: str, content: RecordDict, names: Sequence[str], timeout_s: float
) -> Iterator[Answer]:
    """Make one exchange of which nothing is remembered; see ``Exchanges.ask``."""
    return Exchanges(grid, timeout_s).ask(kind, content, names)


def _stream(grid: Any, kind: str, content: RecordDict, order: Sequence[str]) -> Iterator[Message]:
    nodes = present(grid)
    ids = [nodes[site].node_id for site in order]
    # a receiver in this process may edit its message; the arrays inside are shared
    messages = (Message(_own_shell(content), i, kind, ttl=TTL_S, group_id=kind) for i in ids)
    replies: Iterator[Message] = grid.stream(messages)
    return replies


def _streamed(site: str, replies: Iterator[Message]) -> Answer:
    started = time.monotonic()
    reply = next(replies)
    content = reply.content if reply.has_content() else None
    code = "ok" if content is not None else code_of(reply)
    return Answer(site, content, code, time.monotonic() - started)


def _unbundled(site: str, replies: Iterator[Taken]) -> Answer:
    taken = next(replies)
    code, content = taken.code, None
    try:
        content = None if taken.content is None else unbundle(taken.content)
    except RoundError as error:
        log.warning("site %s: %s", site, error)
        code = error.code
    except UNREADABLE as error:
        log.warning("answer of site %s is none: %r", site, error)
        code = UNREADABLE_CODE
    return Answer(site, content, code, taken.seconds)


def _own_shell(content: RecordDict) -> RecordDict:
    return RecordDict({key: record.copy() for key, record in content.items()})

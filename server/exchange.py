"""Orders out, answers in: one at a time and in the order of sites, over any Flower grid."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

POLL_S = 0.5


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


def sites(grid: Grid) -> dict[str, int]:
    """Return the node of each site, by the name it is registered under, in ascending order."""
    named = {node.name or str(node.node_id): node.node_id for node in grid.get_nodes()}
    return dict(sorted(named.items()))


def exchange(
    grid: Grid, kind: str, content: RecordDict, nodes: Mapping[str, int], timeout_s: float
) -> Iterator[Answer]:
    """Send the same order to every site and yield the answers in ascending order of site.

    Args:
        grid: Flower's grid, in this process or of a deployment.
        kind: Message type, such as ``train``.
        content: What each site is sent.
        nodes: Node of each site.
        timeout_s: Longest wait, for all of them; who has not answered by then is ``R05``.
    """
    order = sorted(nodes)
    messages = [
        Message(_own_shell(content), nodes[site], kind, ttl=timeout_s, group_id=kind)
        for site in order
    ]
    started = time.monotonic()
    if isinstance(grid, StreamingGrid):
        replies: Iterable[Message | None] = grid.stream(messages)
    else:
        replies = _pull_in_order(grid, messages, started + timeout_s)
    for site, reply in zip(order, replies, strict=True):
        yield _answer(site, reply, time.monotonic() - started)
        started = time.monotonic()


def _own_shell(content: RecordDict) -> RecordDict:
    # a receiver in this process may edit its message; the arrays inside are shared
    return RecordDict({key: record.copy() for key, record in content.items()})


def _answer(site: str, reply: Message | None, seconds: float) -> Answer:
    if reply is None:
        return Answer(site, None, "R05", seconds)
    if reply.has_error():
        return Answer(site, None, _code(reply.error.reason), seconds)
    return Answer(site, reply.content, "ok", seconds)


def _code(reason: str | None) -> str:
    """Return the fedmri code at the end of an error's public text; any other failure is R05."""
    last = (reason or "").split(" ")[-1]
    is_code = len(last) == 3 and last[0].isalpha() and last[1:].isdigit()
    return last if is_code else "R05"


def _pull_in_order(
    grid: Grid, messages: list[Message], deadline: float
) -> Iterator[Message | None]:
    ids = list(grid.push_messages(messages))
    waiting, early = set(ids), dict[str, Message]()
    for message_id in ids:
        while message_id in waiting and time.monotonic() < deadline:
            for reply in grid.pull_messages(sorted(waiting)):
                early[reply.metadata.reply_to_message_id] = reply
                waiting.discard(reply.metadata.reply_to_message_id)
            if message_id in waiting:
                time.sleep(POLL_S)
        yield early.pop(message_id, None)

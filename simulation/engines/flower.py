"""flwr's names that are not public but that an own grid cannot do without, in one place."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flwr.app import Context, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from fedmri.wire.grid import FIRST_NODE, RUN_ID, OwnGrid

# flwr writes to the terminal by itself: its log shall go where all logs go.
logging.getLogger("flwr").handlers.clear()
logging.getLogger("flwr").propagate = True

CRASHED = 100


@dataclass(frozen=True)
class Node:
    """A simulated site: its name, and what its ClientApp is told about where its data are."""

    site: str
    config: dict[str, str]


def context_of(node_id: int, node: Node, run_config: dict[str, str | int]) -> Context:
    """Return what a ClientApp is told besides the message."""
    return Context(RUN_ID, node_id, dict(node.config), RecordDict(), dict(run_config))


def failure(reason: str, message: Message) -> Message:
    """Return the reply of a site that could not make one."""
    return Message(Error(CRASHED, reason), reply_to=message)


class SimulatedGrid(OwnGrid):
    """What all engines of a simulation share: nodes with names, and a stream of replies."""

    def __init__(self, nodes: Iterable[Node], run_config: dict[str, str | int]) -> None:
        super().__init__()
        self.run_config = run_config
        self.nodes = {FIRST_NODE + i: node for i, node in enumerate(nodes)}
        self._replies: dict[str, Message] = {}

    def stream(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the reply to each message, in order; each is valid until the next is taken."""
        raise NotImplementedError

    def get_nodes(self) -> list[NodeInfo]:
        """Return the nodes with their sites' names."""
        return [NodeInfo(node_id=i, name=node.site) for i, node in self.nodes.items()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; their replies wait for ``pull_messages``."""
        waiting = list(messages)
        # A streamed reply may share memory with the next one: detach it by a trip through bytes.
        for message, reply in zip(waiting, self.stream(waiting), strict=True):
            self._replies[message.metadata.message_id] = _detached(reply)
        return [message.metadata.message_id for message in waiting]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that are there, once."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and return all replies."""
        return self.pull_messages(self.push_messages(messages))


def _detached(reply: Message) -> Message:
    if reply.has_content():
        from fedmri.wire import put_together, take_apart

        skeleton, arrays = take_apart(reply.content)
        reply.content = put_together(skeleton, {k: v.clone() for k, v in arrays.items()})
    return reply

"""flwr's names that are not public but that an own grid cannot do without, in one place."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flwr.app import Context, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

# flwr writes to the terminal by itself: its log shall go where all logs go.
logging.getLogger("flwr").handlers.clear()
logging.getLogger("flwr").propagate = True

RUN_ID = 1
SERVER_NODE = 1
FIRST_NODE = 1000
CRASHED = 100


@dataclass(frozen=True)
class Node:
    """A simulated site: its name, and what its ClientApp is told about where its data are."""

    site: str
    config: dict[str, str]


def identify_task() -> None:
    """Say who makes messages in this process; flwr has one identity a process."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN_ID, SERVER_NODE


def sent(message: Message) -> Message:
    """Return the message with the id that SuperLink would give it."""
    vars(message.metadata)["_message_id"] = uuid.uuid4().hex
    return message


def context_of(node_id: int, node: Node, run_config: dict[str, str | int]) -> Context:
    """Return what a ClientApp is told besides the message."""
    return Context(RUN_ID, node_id, dict(node.config), RecordDict(), dict(run_config))


def failure(reason: str, message: Message) -> Message:
    """Return the reply of a site that could not make one."""
    return Message(Error(CRASHED, reason), reply_to=message)


class SimulatedGrid(Grid):
    """What all engines of a simulation share: nodes with names, and a stream of replies."""

    def __init__(self, nodes: Iterable[Node], run_config: dict[str, str | int]) -> None:
        identify_task()
        self._run = Run.create_empty(RUN_ID)
        self.run_config = run_config
        self.nodes = {FIRST_NODE + i: node for i, node in enumerate(nodes)}
        self._replies: dict[str, Message] = {}

    def stream(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield the reply to each message, in order; each is valid until the next is taken."""
        raise NotImplementedError

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """Run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the nodes' ids."""
        return list(self.nodes)

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

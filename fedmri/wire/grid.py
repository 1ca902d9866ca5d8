"""What every grid of our own shares with Flower's: who makes messages, their run, their ids."""

from __future__ import annotations

import uuid

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID, SERVER_NODE, FIRST_NODE = 1, 1, 1000


def identify_task() -> None:
    """Say who makes messages in this process; flwr has one identity a process."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN_ID, SERVER_NODE


def sent(message: Message) -> Message:
    """Return the message with the id that SuperLink would give it."""
    vars(message.metadata)["_message_id"] = uuid.uuid4().hex
    return message


class OwnGrid(Grid):
    """A grid without SuperLink: there is one run, and this process sends all of its messages."""

    def __init__(self) -> None:
        identify_task()
        self._run = Run.create_empty(RUN_ID)

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
        return [node.node_id for node in self.get_nodes()]

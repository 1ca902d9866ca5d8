"""Flower grids over a shared folder: for sites that all get letters, and for some that dial in."""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedmri.server.mailbox.letters import ID, Letters
from fedmri.wire.grid import OwnGrid


class MailboxGrid(OwnGrid):
    """The sites of a run, reached by letters alone.

    Args:
        letters: Orders and answers.
    """

    def __init__(self, letters: Letters) -> None:
        super().__init__()
        self._letters = letters
        self.mailed = letters.sites

    def get_nodes(self) -> list[NodeInfo]:
        """Return the sites that were not revoked; end, as Ctrl-C does, where that is asked for."""
        if self._letters.folder.is_stop_asked:
            raise KeyboardInterrupt
        return self._letters.nodes()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Write the order of each site."""
        return [self._letters.post(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the answers that are there, once."""
        found = (self._letters.answer_to(number) for number in list(message_ids))
        return [reply for reply in found if reply is not None]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and return the replies that are there by then."""
        return _sent_and_received(self, messages, timeout)


class MixedGrid(Grid):
    """The sites of a run of which some dial in, and some get letters.

    Args:
        live: Flower's grid of a deployment; messages are of its run.
        letters: Orders and answers of the others.
    """

    def __init__(self, live: Grid, letters: Letters) -> None:
        self._live, self._letters = live, letters
        self.mailed = letters.sites

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._live.set_run(run)

    @property
    def run(self) -> Run:
        """Run that messages belong to."""
        return self._live.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message to a node."""
        return self._live.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> list[int]:
        """Return the nodes' ids."""
        return [node.node_id for node in self.get_nodes()]

    def get_nodes(self) -> list[NodeInfo]:
        """Return who is online, and who gets letters: such a site is asked by nothing else."""
        live = [node for node in self._live.get_nodes() if node.name not in self.mailed]
        return [*live, *self._letters.nodes()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send the order of each site its way."""
        return [number for message in messages for number in self._push(message)]

    def _push(self, message: Message) -> Iterable[str]:
        if self._letters.is_for(message):
            return [self._letters.post(message)]
        return self._live.push_messages([message])

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the answers that are there, once."""
        ids = list(message_ids)
        live = [number for number in ids if not number.startswith(ID)]
        found = list(self._live.pull_messages(live)) if live else []
        by_letter = (self._letters.answer_to(number) for number in ids if number.startswith(ID))
        return [*found, *(reply for reply in by_letter if reply is not None)]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and return the replies that are there by then."""
        return _sent_and_received(self, messages, timeout)


def _sent_and_received(
    grid: Grid, messages: Iterable[Message], timeout: float | None
) -> list[Message]:
    ids = grid.push_messages(messages)
    time.sleep(timeout or 0.0)
    return list(grid.pull_messages(ids))

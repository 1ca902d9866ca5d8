"""The default engine: every site in this process, one after another."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedmri.simulation.engines.flower import Node, SimulatedGrid, context_of, failure
from fedmri.wire.grid import sent

log = logging.getLogger("fedmri.simulation")


class InProcessGrid(SimulatedGrid):
    """A Flower grid whose nodes are function calls: nothing is serialised, one model is trained.

    Args:
        client: ClientApp that every node runs.
        nodes: Simulated sites.
        run_config: What every ClientApp is told of the run.
    """

    def __init__(
        self, client: ClientApp, nodes: Iterable[Node], run_config: dict[str, str | int]
    ) -> None:
        super().__init__(nodes, run_config)
        self._client = client
        self._contexts = {
            node_id: context_of(node_id, node, run_config) for node_id, node in self.nodes.items()
        }

    def stream(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Run the ClientApp for one message at a time, when its reply is asked for."""
        for message in messages:
            yield run_client(self._client, sent(message), self._contexts)


def run_client(client: ClientApp, message: Message, contexts: dict[int, Context]) -> Message:
    """Return the reply of a ClientApp; what it raises becomes an error reply, as in deployment."""
    node_id = message.metadata.dst_node_id
    try:
        return client(message, contexts[node_id])
    except Exception as error:  # outermost frame of a simulated process
        log.error("node %d failed", node_id, exc_info=error)
        return failure("round error R05", message)

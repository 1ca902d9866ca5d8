"""A simulated grid some of whose sites approve the plan in the middle of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flwr.app import Error, Message

from fedmri.simulation.engines.in_process import InProcessGrid
from fedmri.wire import ORDER
from fedmri.wire.grid import sent

NEVER = 10**9
"""A round that no run has."""
UNAPPROVED = Error(100, "privacy error P11")


class Latecomers(InProcessGrid):
    """Runs the real clients; a site refuses all orders until it trains for the first time.

    Args:
        first: Round in which each of these sites trains for the first time.
        given: See ``InProcessGrid``.
    """

    def __init__(self, first: Mapping[str, int], *given: Any) -> None:
        super().__init__(*given)
        self._first = first

    def stream(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Run the ClientApp where the site has approved."""
        for message in messages:
            site = self.nodes[message.metadata.dst_node_id].site
            order = json.loads(str(message.content.config_records[ORDER]["json"]))
            # it approves between two rounds, before the first one is scored or after: no bit knows
            if order["round"] < self._first.get(site, 0):
                yield Message(UNAPPROVED, reply_to=sent(message))
            else:
                yield from super().stream([message])

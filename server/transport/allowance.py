"""How much a site may push: what the answers to its orders can come to, and no more.

SuperLink keeps whatever a registered node pushes until the run is over. A site that pushes piece
after piece, for an answer that it never ends, would fill the server's disk.
"""

from __future__ import annotations

from collections.abc import Callable

from flwr.proto.fleet_pb2 import PullMessagesResponse, PushMessagesRequest
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from google.protobuf.message import DecodeError

MOST_WAITING = 4
"""Answers that a site may have to push still: of orders that came while it was away."""
MOST_OBJECTS = 50_000
"""Objects of one answer: arrays, their pieces, records."""


class Allowance:
    """Bytes that each node may push: those of one answer for each order that it was handed.

    Args:
        per_answer: Returns the most bytes that an answer may have.
    """

    def __init__(self, per_answer: Callable[[], int]) -> None:
        self._per_answer = per_answer
        self._left: dict[int, int] = {}

    def give(self, node_id: int, handed_out: bytes) -> None:
        """Allow for the answers to the orders in what a node was handed."""
        try:
            n_orders = len(PullMessagesResponse.FromString(handed_out).messages_list)
        except DecodeError:
            return
        if n_orders:
            most = self._per_answer()
            left = self._of(node_id) + n_orders * most
            self._left[node_id] = min(left, MOST_WAITING * most)

    def take(self, node_id: int, n_bytes: int) -> bool:
        """Tell whether a node may push so many bytes more, and count them."""
        left = self._of(node_id) - n_bytes
        if left < 0:
            return False
        self._left[node_id] = left
        return True

    def _of(self, node_id: int) -> int:
        # whoever is new to this process may answer an order of the one before
        return self._left.setdefault(node_id, self._per_answer())


def n_objects(body: bytes) -> int:
    """Return how many objects the answer of a push has, as it announces them."""
    trees = PushMessagesRequest.FromString(body).message_object_trees
    return sum(1 for tree in trees for _ in iterate_object_tree(tree))

"""Flower's grid as a server uses it: answers are bounded, and one look finds those of all sites."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import InflatableObject
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid import http_grid
from flwr.superlink.grid.http_grid import HttpGrid

from fedmri.plan import Plan
from fedmri.round import Layout, Weights
from fedmri.stages.stage import Made
from fedmri.swollen import COPIES, SLACK, refuse_swollen

FRESH_S = 0.04
"""What SuperLink said is not asked again for so long: less than the shortest pause of a round."""


def bound_answers(plan: Plan, model: Weights, entries: Layout | None = None) -> int:
    """Refuse, from now on in this process, answers of more bytes than the plan's can have.

    Flower's own grid is changed for it: there is no other door before its copies are made.

    Returns:
        The most bytes that an answer may have.
    """
    model_bytes = sum(value.numel() * value.element_size() for value in model.values())
    made = Made(plan, model, entries or Layout())
    sums = max((stage.most_numbers(made) for stage in plan.stages), default=0)
    most = SLACK + COPIES * model_bytes + 4 * 8 * sums  # in limbs

    def inflated(object_id: str, contents: dict[str, bytes], **named: Any) -> InflatableObject:
        refuse_swollen(object_id, contents, most)
        return inflate_object_from_contents(object_id, contents, **named)

    vars(http_grid)["inflate_object_from_contents"] = inflated
    return most


class OneLook:
    """Changes Flower's grid: one request finds which of all orders were answered.

    An answer itself is fetched when it is pulled, so that one alone is in memory.

    Args:
        grid: Flower's grid of a deployment, which is changed.
    """

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid
        self._push, self._client = grid.push_messages, grid._runtime_client
        self._open: set[str] = set()
        self._heads: dict[str, tuple[Any, Any]] = {}
        self._looked = -FRESH_S
        vars(grid).update(push_messages=self.push, pull_messages=self.pull)

    def push(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send orders; return their ids."""
        ids = list(self._push(messages))
        self._open.update(filter(None, ids))
        return ids

    def pull(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the answers to orders that are there, once."""
        if self._open and time.monotonic() - self._looked > FRESH_S:
            self._look()
        known = [self._heads.pop(order) for order in message_ids if order in self._heads]
        return [message for head, tree in known for message in self._put_together(head, tree)]

    def _look(self) -> None:
        found = self._client.PullMessages(PullAppMessagesRequest(message_ids=self._open))
        for head, tree in zip(found.messages_list, found.message_object_trees, strict=True):
            order = head.metadata.reply_to_message_id
            self._heads[order] = head, tree
            self._open.discard(order)
        self._looked = time.monotonic()

    def _put_together(self, head: Any, tree: Any) -> Iterable[Message]:
        known = PullAppMessagesResponse(messages_list=[head], message_object_trees=[tree])
        grid = copy.copy(self._grid)
        grid._client = _Known(self._client, known)  # type: ignore[assignment]  # for one call
        return HttpGrid.pull_messages(grid, ())


class _Known:
    """Flower's client, but for what it was told already."""

    def __init__(self, client: Any, told: PullAppMessagesResponse) -> None:
        self._client, self._told = client, told

    def PullMessages(self, _: PullAppMessagesRequest) -> PullAppMessagesResponse:  # noqa: N802
        """Return it again."""
        return self._told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

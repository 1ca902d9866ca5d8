"""Orders that a site lost: SuperLink notices, so that the server asks again at once.

Flower marks an order as delivered when a node fetches it and then waits for ever: nobody notices
that the connection broke before the order arrived, or before the answer was on its way. But a node
has one order at a time, and asks for the next when it is done with the last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.state.schema.corestate_models import ObjectPushSessionRoot
from flwr.supercore.state.schema.linkstate_models import MessageIns, MessageRes
from flwr.supercore.utils import uint64_to_int64
from sqlalchemy import select

log = logging.getLogger("fedmri.server")


def notice_lost_orders(state: Any) -> None:
    """Let a node that asks for an order have given up all others; the server then sees an error.

    What is given up: orders that were delivered and not answered whole, and those that a newer one
    to the same node overtook before they were delivered.

    Args:
        state: Flower's state of a SuperLink, in a database.
    """
    fetch: Callable[..., list[Any]] = state.get_message_ins

    def fetch_newest(node_id: int, limit: int | None, *, run_id: int | None = None) -> list[Any]:
        if node_id != SUPERLINK_NODE_ID:
            _give_up(state, node_id)
        return fetch(node_id, limit, run_id=run_id)

    state.get_message_ins = fetch_newest


def _give_up(state: Any, node_id: int) -> None:
    with state.session() as session:
        rows = session.execute(
            select(
                MessageIns.message_id,
                MessageIns.delivered_at,
                MessageRes.message_id,
                ObjectPushSessionRoot.session_id,
            )
            .outerjoin(MessageRes, MessageRes.reply_to_message_id == MessageIns.message_id)
            .outerjoin(
                ObjectPushSessionRoot,
                ObjectPushSessionRoot.root_object_id == MessageRes.message_id,
            )
            .where(MessageIns.dst_node_id == uint64_to_int64(node_id))
            .order_by(MessageIns.created_at)
        ).all()
        waiting = [order for order, delivered, _, _ in rows if not delivered]
        lost = set(waiting[:-1])
        for order, delivered, reply, unfinished in rows:
            if delivered and (reply is None or unfinished is not None):
                lost.add(order)
            if unfinished is not None:
                state._cleanup_push_session(unfinished, cleanup_messages=True)
        if lost:
            log.warning("node %d lost %d orders", node_id, len(lost))
            state.delete_messages(lost)

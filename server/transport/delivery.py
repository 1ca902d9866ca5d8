"""Orders that a site lost: SuperLink notices, so that the server asks again at once.

Flower marks an order as delivered when a node fetches it and then waits for ever: nobody notices
that the connection broke before the order arrived, or before the answer was on its way. But a node
has one order at a time, and asks for the next when it is done with the last.

Flower also hands out an answer whose parts are still on their way, and whoever takes it then waits
for the rest: one slow upload would hold up all other sites.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.date import now
from flwr.supercore.state.schema.corestate_models import ObjectPushSession, ObjectPushSessionRoot
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
    store: Callable[..., tuple[bool, list[str]]] = state.store_message_and_object_tree
    uploads: dict[int, set[str]] = defaultdict(set)

    def store_known(message: Any, object_tree: Any, session_id: str) -> tuple[bool, list[str]]:
        if message.metadata.src_node_id != SUPERLINK_NODE_ID:
            uploads[message.metadata.src_node_id].add(session_id)
        return store(message, object_tree, session_id)

    def fetch_newest(node_id: int, limit: int | None, *, run_id: int | None = None) -> list[Any]:
        if node_id != SUPERLINK_NODE_ID:
            for session in uploads.pop(node_id, ()):  # one that is complete is forgotten already
                state._cleanup_push_session(session, cleanup_messages=True)
            _give_up(state, node_id)
        return fetch(node_id, limit, run_id=run_id)

    state.store_message_and_object_tree = store_known
    state.get_message_ins = fetch_newest


def hold_back_parts(state: Any) -> None:
    """Let the server see an answer once it is whole; a part counts as no answer yet.

    An upload that stopped is lost after a while, as Flower has it, and is then an error. None may
    begin between the look at the uploads and the answers: its first part would pass for all of it,
    and the server would wait for the rest.

    Args:
        state: Flower's state of a SuperLink, in a database.
    """
    fetch: Callable[[set[str], int], list[Any]] = state.get_message_res
    store: Callable[..., tuple[bool, list[str]]] = state.store_message_and_object_tree
    one_at_a_time = threading.Lock()

    def store_alone(message: Any, object_tree: Any, session_id: str) -> tuple[bool, list[str]]:
        with one_at_a_time:
            return store(message, object_tree, session_id)

    def fetch_whole(message_ids: set[str], run_id: int) -> list[Any]:
        with one_at_a_time:
            wanted = set(message_ids) - _uploading(state, message_ids)
            return fetch(wanted, run_id) if wanted else []

    state.store_message_and_object_tree = store_alone
    state.get_message_res = fetch_whole


def _uploading(state: Any, orders: set[str]) -> set[str]:
    """Return the orders whose answer is on its way; uploads that stopped are given up."""
    with state.session() as session:
        rows = session.execute(
            select(
                MessageRes.reply_to_message_id,
                ObjectPushSession.session_id,
                ObjectPushSession.expires_at,
            )
            .join(
                ObjectPushSessionRoot, ObjectPushSessionRoot.root_object_id == MessageRes.message_id
            )
            .join(
                ObjectPushSession, ObjectPushSession.session_id == ObjectPushSessionRoot.session_id
            )
            .where(MessageRes.reply_to_message_id.in_(orders))
        ).all()
        stopped = {order: upload for order, upload, expires in rows if expires <= now()}
        for upload in stopped.values():
            state._cleanup_push_session(upload, cleanup_messages=True)
        if stopped:  # without its order, the server is told that the answer is lost
            state.delete_messages(set(stopped))
        return {order for order, _, _ in rows if order not in stopped}


def _give_up(state: Any, node_id: int) -> None:
    with state.session() as session:
        rows = session.execute(
            select(MessageIns.message_id, MessageIns.delivered_at, MessageRes.message_id)
            .outerjoin(MessageRes, MessageRes.reply_to_message_id == MessageIns.message_id)
            .where(MessageIns.dst_node_id == uint64_to_int64(node_id))
            .order_by(MessageIns.created_at)
        ).all()
        overtaken = [order for order, delivered, _ in rows if not delivered][:-1]
        unanswered = [order for order, delivered, reply in rows if delivered and reply is None]
        if overtaken or unanswered:
            log.warning("node %d lost %d orders", node_id, len(overtaken) + len(unanswered))
            state.delete_messages({*overtaken, *unanswered})

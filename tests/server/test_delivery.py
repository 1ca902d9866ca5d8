"""Orders that a site lost on the way: SuperLink's own state says so as soon as it can be known."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.constant import NOOP_FEDERATION_ID, OBJECT_PUSH_SESSION_TTL_SECONDS
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity

from fedmri.server.transport import delivery
from fedmri.server.transport.delivery import hold_back_parts, notice_lost_orders
from fedmri.server.transport.flower import Secrets, superlink_app

pytestmark = pytest.mark.filterwarnings(
    "ignore:No path_separator found in configuration:DeprecationWarning"  # flwr's own migrations
)

UNAVAILABLE = 3


class Link:
    """SuperLink's state with one run and one node, as its handlers use it."""

    def __init__(self, state: Any, name: str) -> None:
        self.state = state
        self.run: int = self.state.create_run(
            "f/f", "1", "0" * 64, {}, NOOP_FEDERATION_ID, None, None, "flwr-serverapp"
        )
        self.node: int = self.state.create_node("aid", name, name.encode(), 30.0)
        self.state.activate_node(self.node, 30.0)

    def order(self, text: str) -> str:
        """Push an order, as the ServerApp does; return its id."""
        content = RecordDict({"order": ConfigRecord({"text": text})})
        message = Message(content, self.node, "train", ttl=600.0)
        self._store(message)
        return message.metadata.message_id

    def fetch(self) -> list[Message]:
        """Ask for an order, as the node does."""
        found: list[Message] = self.state.get_message_ins(node_id=self.node, limit=1)
        return found

    def answer(self, order: Message, *, is_whole: bool = True) -> list[str]:
        """Push an answer as the node does, or all of it but its objects; return their ids."""
        order.metadata.__dict__["_dst_node_id"] = self.node
        content = RecordDict({"answer": ConfigRecord({"text": "yes"})})
        return self._store(Message(content, reply_to=order), is_whole=is_whole)

    def codes(self, order: str) -> list[int | None]:
        """Return what the ServerApp finds: the code of an error, or None for content."""
        replies = self.state.get_message_res({order}, self.run)
        return [reply.error.code if reply.has_error() else None for reply in replies]

    def _store(self, message: Message, *, is_whole: bool = True) -> list[str]:
        message.metadata.__dict__["_message_id"] = message.object_id
        session = self.state.start_session(self.run)
        tree = get_object_tree(message)
        _, missing = self.state.store_message_and_object_tree(message, tree, session)
        parts = get_all_nested_objects(message)
        for name in missing if is_whole else ():
            self.state.store_object(self.run, session, name, parts[name].deflate())
        return list(missing)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return the state of a SuperLink with nobody in it."""
    app = superlink_app(tmp_path_factory.mktemp("link") / "state.db", 1, Secrets.fresh())
    state = app.state.linkstate_factory.state()
    notice_lost_orders(state)
    yield state
    state._engine.dispose()


@pytest.fixture
def link(state: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Link:
    """Return a run and a node of the test's own; this process plays the ServerApp."""
    link = Link(state, request.node.name)
    monkeypatch.setattr(TaskIdentity, "_run_id", link.run)
    monkeypatch.setattr(TaskIdentity, "_node_id", SUPERLINK_NODE_ID)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    return link


def test_an_order_whose_delivery_broke_off_is_lost_when_the_node_asks_again(link: Link) -> None:
    """The server learns it at once, not at its deadline."""
    order = link.order("a")
    assert [m.metadata.message_id for m in link.fetch()] == [order]
    assert link.codes(order) == []
    assert link.fetch() == []
    assert link.codes(order) == [UNAVAILABLE]


def test_an_answer_that_broke_off_is_lost_when_the_node_asks_again(link: Link) -> None:
    """Nobody waits for objects that will never come."""
    order = link.order("a")
    link.answer(*link.fetch(), is_whole=False)
    link.fetch()
    assert link.codes(order) == [UNAVAILABLE]


def test_a_server_that_waits_for_the_rest_of_an_answer_is_told_that_it_is_lost(link: Link) -> None:
    """Flower shows an answer before it is whole and forgets its order; parts are waited for."""
    order = link.order("a")
    [part, *_] = link.answer(*link.fetch(), is_whole=False)
    assert link.codes(order) == [None]
    link.state.delete_messages({order})
    assert link.state.get_object(link.run, part) == b""
    link.fetch()
    assert link.state.get_object(link.run, part) is None


def test_no_answer_begins_between_the_look_at_uploads_and_at_answers(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first part would pass for all of it, and the server would wait for the rest."""
    for name in ("get_message_res", "store_message_and_object_tree"):
        monkeypatch.setattr(link.state, name, getattr(link.state, name))
    hold_back_parts(link.state)
    order = link.order("a")
    push = threading.Thread(target=link.answer, args=link.fetch(), kwargs={"is_whole": False})
    look = delivery._uploading

    def looked(state: Any, orders: set[str]) -> set[str]:
        found = look(state, orders)
        push.start()
        push.join(0.5)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "_uploading", looked)
        assert link.codes(order) == []
    push.join()
    assert link.codes(order) == []


def test_a_whole_answer_outlives_the_next_fetch(link: Link) -> None:
    """The server takes answers one by one: they wait for it."""
    order = link.order("a")
    link.answer(*link.fetch())
    link.fetch()
    assert link.codes(order) == [None]


def test_a_newer_order_overtakes_one_that_waits(link: Link) -> None:
    """A site that was asked twice while it was away trains once."""
    old, new = link.order("a"), link.order("b")
    assert [m.metadata.message_id for m in link.fetch()] == [new]
    assert link.codes(old) == [UNAVAILABLE]
    assert link.codes(new) == []


@pytest.fixture
def patient(state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the state show whole answers alone, for one test."""
    monkeypatch.setattr(state, "get_message_res", state.get_message_res)  # put back afterwards
    hold_back_parts(state)


@pytest.mark.usefixtures("patient")
def test_a_part_of_an_answer_is_none_yet(link: Link) -> None:
    """Whoever took it would wait for the rest, and all other sites with it."""
    order = link.order("a")
    link.answer(*link.fetch(), is_whole=False)
    assert link.codes(order) == []
    link.fetch()
    assert link.codes(order) == [UNAVAILABLE]


@pytest.mark.usefixtures("patient")
def test_a_whole_answer_is_seen_beside_a_part_of_another(link: Link) -> None:
    """Orders are looked at one by one, though they are asked about together."""
    first = link.order("a")
    link.answer(*link.fetch())
    second = link.order("b")
    link.answer(*link.fetch(), is_whole=False)
    found = link.state.get_message_res({first, second}, link.run)
    assert [reply.metadata.reply_to_message_id for reply in found] == [first]


@pytest.mark.usefixtures("patient")
def test_an_upload_that_stopped_is_lost(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that is silent in the middle of its answer is asked again, not waited for."""
    order = link.order("a")
    link.answer(*link.fetch(), is_whole=False)
    later = now() + dt.timedelta(seconds=OBJECT_PUSH_SESSION_TTL_SECONDS + 1)
    monkeypatch.setattr(delivery, "now", lambda: later)
    assert link.codes(order) == [UNAVAILABLE]

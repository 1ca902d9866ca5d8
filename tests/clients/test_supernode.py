"""A SuperNode serves or ends: it is never a process that lives on and hears of nothing."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory

from fedmri.clients.process import supernode
from fedmri.clients.process.supernode import LOST_THREAD, OneAtATime, Watch, patient

ENDLESS = "threading.Thread(target=threading.Event().wait).start()"
"""Flower's HTTP server is such a thread: Python waits for it."""


@pytest.mark.parametrize(
    ("error", "is_given_up"),
    [
        (httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"), False),
        (httpx.ConnectTimeout("_ssl.c:983: The handshake operation timed out"), False),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), True),
    ],
    ids=["broken handshake", "stalled handshake", "wrong certificate"],
)
def test_only_a_wrong_certificate_is_a_reason_to_give_up(
    error: httpx.TransportError, is_given_up: bool
) -> None:
    """A connection that breaks in the middle of a handshake is tried again, as any other."""
    invoker = patient(make_simple_http_retry_invoker())
    assert invoker.should_giveup is not None
    assert invoker.should_giveup(error) is is_given_up


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Flower's state of a node that knows a run."""
    state = NodeStateFactory(objectstore_factory=ObjectStoreFactory()).state()
    state.store_run(Run.create_empty(7))
    for name, value in (("_run_id", 7), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)
    return state


def flower_orders() -> OneAtATime:
    """Return Flower's own fetching and sending, mended."""
    loop = start_client_internal
    return OneAtATime(loop._pull_and_store_message, loop._push_messages)


def order_of(number: int) -> Message:
    """Return an order as SuperLink sends it."""
    order = Message(RecordDict({"config": ConfigRecord({"a": number})}), 2, "train")
    vars(order.metadata)["_message_id"] = order.object_id
    return order


def ended(*arguments: object) -> bytes:
    """Say that the run has ended."""
    raise RunNotRunningException


def fetching(state: Any, order: Message, **calls: Any) -> dict[str, Any]:
    """Return what Flower fetches an order with; the calls that are not named say: ended."""
    names = ("get_run", "get_fab", "pull_object", "confirm_message_received")
    return {
        **dict.fromkeys(names, ended),
        **{"state": state, "object_store": state.object_store, "node_config": {}},
        **{"receive": lambda: (order, get_object_tree(order)), "trusted_entities": None},
        **calls,
    }


def test_an_order_whose_run_ended_on_the_way_leaves_no_task_behind(state: Any) -> None:
    """The next order is not kept waiting for objects that never come."""
    assert flower_orders().pull(**fetching(state, order_of(1))) is None
    assert [task.status.status for task in state.get_tasks()] == ["finished"]


def test_an_answer_to_an_order_of_an_ended_run_is_not_taken_for_the_next(
    state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who then asked for another order would have given up the one that waits, again and again."""
    monkeypatch.setattr(start_client_internal, "time", Worker())
    orders, first, second = flower_orders(), order_of(1), order_of(2)
    assert orders.pull(**fetching(state, first, pull_object=objects_of(first))) is None
    fine = {"pull_object": objects_of(second), "confirm_message_received": lambda *_: None}
    assert orders.pull(**fetching(state, second, **fine)) == 7
    Worker.waiting = [partial(answer, state, order) for order in (first, second)]
    sent: list[str] = []

    def send(message: Message, *_: Any) -> tuple[set[str], str]:
        sent.append(message.metadata.reply_to_message_id)
        if len(sent) == 1:
            raise RunNotRunningException
        return set(), "session"

    store = state.object_store
    orders.push(state=state, object_store=store, send=send, push_object=lambda *_: None)
    assert sent == [first.metadata.message_id, second.metadata.message_id]


def objects_of(order: Message) -> Callable[[int, str], bytes]:
    """Return what gives the parts of an order."""
    parts = {name: part.deflate() for name, part in get_all_nested_objects(order).items()}
    return lambda run_id, name: parts[name]


def answer(state: Any, order: Message) -> None:
    """Hand an answer to the SuperNode, as the worker does whenever it is done."""
    state.record_message_processing_start(order.metadata.message_id)
    reply = Message(RecordDict(), reply_to=order)
    start_client_internal._insert_message(reply, state, state.object_store)
    state.record_message_processing_end(order.metadata.message_id)


class Worker:
    """A clock whose sleeper wakes when the next answer is there."""

    waiting: ClassVar[list[Callable[[], None]]] = []

    def sleep(self, seconds: float) -> None:
        """Let the worker finish what it is at."""
        self.waiting.pop(0)()


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (ENDLESS, 1),
        (f"{ENDLESS}; raise ValueError", 1),
        (f"{ENDLESS}; threading.Thread(target=lambda: 1 / 0).start(); time.sleep(60)", LOST_THREAD),
    ],
    ids=["gave up", "error", "lost thread"],
)
def test_a_supernode_that_cannot_go_on_ends(work: str, code: int) -> None:
    """Whatever its other threads wait for: the client sees the end and starts another."""
    program = [
        "import threading, time",
        "from fedmri.clients.process import supernode",
        f"def work():\n    {work}",
        "supernode.flower_supernode = work",
        "supernode.main()",
    ]
    command = [sys.executable, "-c", "\n".join(program)]
    assert subprocess.run(command, capture_output=True, timeout=50, check=False).returncode == code


def test_an_idle_site_asks_seldom_and_a_busy_one_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's loop pauses 3 s without an order and 0.5 s for the answer; ours begins with less."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    watch = Watch()
    for seconds in [3] * 40 + [0.5] * 20 + [3]:
        watch.sleep(seconds)
    idle, busy, after = slept[:40], slept[40:60], slept[60]
    assert (idle[0], idle[-1]) == (supernode.SHORTEST_S, 3)
    assert (busy[0], busy[-1]) == (supernode.SHORTEST_S, 0.5)
    assert idle == sorted(idle)
    assert after == supernode.SHORTEST_S
    assert watch.monotonic() > 0
    loop = inspect.getsource(start_client_internal)
    assert sorted(set(re.findall(r"time\.(\w+)\(([\d.]*)\)", loop))) == [
        ("sleep", "0.5"),
        ("sleep", "3"),
    ]

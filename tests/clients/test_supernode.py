"""A SuperNode serves or ends: it is never a process that lives on and hears of nothing."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import time

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory

from fedmri.clients.process import supernode
from fedmri.clients.process.supernode import LOST_THREAD, Watch, patient, tidy

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


def test_an_order_whose_run_ended_on_the_way_leaves_no_task_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next order is not kept waiting for objects that never come."""
    state = NodeStateFactory(objectstore_factory=ObjectStoreFactory()).state()
    state.store_run(Run.create_empty(7))
    for name, value in (("_run_id", 7), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)
    order = Message(RecordDict({"config": ConfigRecord({"a": 1})}), 2, "train")
    vars(order.metadata)["_message_id"] = order.object_id

    def ended(*arguments: object) -> bytes:
        raise RunNotRunningException

    pulled = tidy(start_client_internal._pull_and_store_message)(
        state=state,
        object_store=state.object_store,
        node_config={},
        receive=lambda: (order, get_object_tree(order)),
        get_run=ended,
        get_fab=ended,
        pull_object=ended,
        confirm_message_received=ended,
        trusted_entities=None,
    )
    assert pulled is None
    assert [task.status.status for task in state.get_tasks()] == ["finished"]


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

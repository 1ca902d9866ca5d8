"""Light sites for a real server: each answers at once with what it was sent, and none trains.

A site is a thread that speaks SuperNode's protocol, with a key of its own.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    pull_objects,
    push_objects,
)
from flwr.supernode.fleet_http_connection import http_request_response
from httpcore import SyncBackend

from fedmri.round import Update
from fedmri.server.registry.home import ServerHome
from fedmri.simulation.demo import command
from fedmri.wire import EVALUATE, TRAIN, Scores, bundle, content_of, read_order, unbundle
from fedmri.wire.grid import identify_task

LOOK_S = 3.0
"""As SuperNode looks for orders."""


def answer(order: RecordDict, site: str) -> RecordDict:
    """Return what a site that does nothing answers."""
    if "test" in str(order["order"]) or "val" in str(order["order"]):
        read_order(unbundle(order), EVALUATE)
        return bundle(content_of(Scores(site, 5, 5, {"auc": 0.5, "loss": 1.0})))
    sent = read_order(unbundle(order), TRAIN)
    metrics = {"loss": 1.0, "n_steps": 1.0, "n_seen": 5.0, "n_skipped": 0.0, "train_seconds": 0.0}
    return bundle(content_of(Update(site, sent.weights, 5, 5, metrics)))


def connect_from_everywhere() -> None:
    """Give each connection a loopback address of its own: the server allows one address 100."""
    connect = SyncBackend.connect_tcp

    def connect_from(self: SyncBackend, host: str, port: int, *rest: Any, **more: Any) -> Any:
        near = f"127.1.{random.randrange(256)}.{random.randrange(1, 255)}"
        return connect(self, host, port, *rest, **{**more, "local_address": near})

    SyncBackend.connect_tcp = connect_from  # type: ignore[method-assign]


def live(
    site: str,
    key: ec.EllipticCurvePrivateKey,
    home: ServerHome,
    stop: threading.Event,
    look_s: float,
) -> None:
    """Answer orders until told to stop."""
    address, keys = f"127.0.0.1:{home.config.port}", (key, key.public_key())
    with http_request_response(address, insecure=False, root_certificates=str(home.ca_cert),
                               authentication_keys=keys) as connection:  # fmt: skip
        _, receive, send, _, _, pull, push, confirm = connection
        while not stop.wait(look_s):
            found = receive()
            if found is None:
                continue
            bare, tree = found
            run = bare.metadata.run_id
            names = [one.object_id for one in iterate_object_tree(tree)]
            contents = pull_objects(names, partial(pull, run))
            order: Any = inflate_object_from_contents(tree.object_id, contents)
            confirm(run, bare.metadata.message_id)
            reply = Message(answer(order.content, site), reply_to=bare)
            vars(reply.metadata)["_message_id"] = reply.object_id
            objects, whole = get_all_nested_objects(reply), get_object_tree(reply)
            wanted, session = send(reply, whole, 0.0)
            push_objects(
                objects,
                partial(push, run, session),
                object_ids_to_push=wanted,
            )


@contextmanager
def consortium(
    home: ServerHome,
    keys: Mapping[str, ec.EllipticCurvePrivateKey],
    settle_s: float,
    look_s: float = LOOK_S,
) -> Iterator[int]:
    """Run a server and its sites; yield the server's process, and end all of it.

    Args:
        home: The server's folder, in which the sites are enrolled.
        keys: Of each site.
        settle_s: Seconds that the server needs to register them.
        look_s: Seconds between two looks of a site for an order.
    """
    server = command("server", "start", home.folder)
    identify_task()
    connect_from_everywhere()
    stop = threading.Event()
    time.sleep(settle_s)
    for site, key in keys.items():
        given = (site, key, home, stop, look_s)
        threading.Thread(target=live, args=given, daemon=True).start()
    try:
        yield server.pid
    finally:
        stop.set()
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def children(pid: int) -> list[int]:
    """Return the processes below a process."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    own = [int(text) for text in path.read_text().split()] if path.exists() else []
    return own + [below for one in own for below in children(one)]


def memory_mb(pid: int, field: str = "VmHWM") -> int:
    """Return the most memory that a process has had, or what it has now by ``VmRSS``."""
    path = Path(f"/proc/{pid}/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith(field)), 0)


def ssh(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the public half as a site sends it to the coordinator."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

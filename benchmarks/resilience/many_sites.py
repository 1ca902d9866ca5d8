"""Many light sites on one server of one machine: memory, time of a round, and what grows.

    python benchmarks/resilience/many_sites.py [N_SITES] [N_ROUNDS]

The server is real: its processes, TLS, Flower's SuperLink. A site is a thread that speaks
SuperNode's protocol, with a key of its own, and answers at once with what it was sent: no site
trains. Prints seconds a round, peak memory of the server's processes, and the size of each file.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
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

from fedmri.config import load
from fedmri.round import Update
from fedmri.server.registry.enrolment import enroll, make_home, sign_for
from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import OVER, RunFolder, new_run
from fedmri.server.transport.superlink import free_port
from fedmri.simulation.demo import command
from fedmri.wire import EVALUATE, TRAIN, Scores, bundle, content_of, read_order, unbundle
from fedmri.wire.grid import identify_task

N_SITES = int(sys.argv[1]) if len(sys.argv) > 1 else 200
N_ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
LOOK_S = 3.0
"""As SuperNode looks for orders."""
SETTINGS = (
    *("experiment=smoke", "data.prepare.shape=[16,16,16]", "data.prepare.spacing_mm=12"),
    *("model.width=4", "rounds.timeout_s=600", f"rounds.min_sites={N_SITES}"),
    *("rounds.quorum=1.0", f"rounds.n_rounds={N_ROUNDS}"),
)


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
    site: str, key: ec.EllipticCurvePrivateKey, home: ServerHome, stop: threading.Event
) -> None:
    """Answer orders until told to stop."""
    address, keys = f"127.0.0.1:{home.config.port}", (key, key.public_key())
    with http_request_response(address, insecure=False, root_certificates=str(home.ca_cert),
                               authentication_keys=keys) as connection:  # fmt: skip
        _, receive, send, _, _, pull, push, confirm = connection
        while not stop.wait(LOOK_S):
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


def main() -> None:
    """Run it and print what was measured."""
    with tempfile.TemporaryDirectory(prefix="fedmri-many-") as name:
        home = make_home(Path(name) / "server", ["127.0.0.1"], free_port())
        keys = {f"site{n:03d}": ec.generate_private_key(ec.SECP384R1()) for n in range(N_SITES)}
        for site, key in keys.items():
            enroll(home, site, ssh(key))
        run = new_run(home.runs, sign_for(home, load(SETTINGS).plan, tuple(keys)), "many", [*keys])
        server = command("server", "start", home.folder)
        identify_task()
        connect_from_everywhere()
        stop = threading.Event()
        time.sleep(15)  # it registers the sites first
        for site, key in keys.items():
            threading.Thread(target=live, args=(site, key, home, stop), daemon=True).start()
        try:
            peaks = watch(run, server.pid)
        finally:
            stop.set()
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        report(home, run, peaks)


def watch(run: RunFolder, pid: int) -> dict[str, int]:
    """Return the peak memory in MB of the server's processes, once the run is over."""
    peaks: dict[str, int] = {}
    while run.note.status not in OVER:
        for child, what in ((pid, "server"), *((c, "process of the run") for c in children(pid))):
            peaks[what] = max(peaks.get(what, 0), peak_mb(child))
        time.sleep(0.5)
    return peaks


def children(pid: int) -> list[int]:
    """Return the processes below a process."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    own = [int(text) for text in path.read_text().split()] if path.exists() else []
    return own + [below for one in own for below in children(one)]


def peak_mb(pid: int) -> int:
    """Return the most memory that a process has had."""
    path = Path(f"/proc/{pid}/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def report(home: ServerHome, run: RunFolder, peaks: dict[str, int]) -> None:
    """Print what was measured."""
    print(f"{N_SITES} sites, {N_ROUNDS} rounds: {run.note.status} {run.note.message}")
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").open()]
    seconds = [one["seconds"] for one in records if one["kind"] == "round_total"]
    print("seconds a round:", *(f"{one:.1f}" for one in seconds))
    for what, mb in peaks.items():
        print(f"peak memory of the {what}: {mb} MB")
    sizes: Callable[[Path], int] = lambda path: path.stat().st_size  # noqa: E731  # used twice
    for path in (*sorted(run.path.glob("*")), *sorted(home.logs.glob("*")), home.database):
        if path.is_file():
            print(f"{path.name}: {sizes(path):,} bytes, {sizes(path) // N_ROUNDS:,} a round")
    print("checkpoints:", sum(map(sizes, (run.path / "checkpoints").glob("*"))), "bytes")


def ssh(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the public half as a site sends it to the coordinator."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


if __name__ == "__main__":
    main()

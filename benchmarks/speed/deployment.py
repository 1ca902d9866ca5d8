"""What a deployment costs, with real processes over TLS on loopback.

    python benchmarks/speed/deployment.py memory [MILLIONS] [SITES...]  peak memory by sites
    python benchmarks/speed/deployment.py hostile [MILLIONS] [SITES] [HOSTILE]  under attack
    python benchmarks/speed/deployment.py start [SETTING...]  time to the first round, overhead

Memory: the real server and its ServerApp, and light sites in one process: each has its own key and
connection, takes its orders and answers with weights of its own, but trains nothing. Hostile sites
answer with a megabyte that stands for two gigabytes. Start: the demo's consortium of three, beside
plain flwr with an app that does the same steps.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import plain_flower
import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_connection import http_request_response

from fedmri.agreement.signed_plan import sign_plan
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.keys import make_key_pair
from fedmri.clients.training.own_data import prepare_own
from fedmri.config import load
from fedmri.data.synthetic.data_set import SyntheticConfig, generate
from fedmri.models.build import build_network, n_parameters
from fedmri.models.weights import weights
from fedmri.plan import Plan
from fedmri.round import Update, Weights
from fedmri.server.registry.enrolment import enroll, make_home
from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import OVER, RunFolder, new_run
from fedmri.server.transport.superlink import free_port
from fedmri.simulation import demo
from fedmri.wire import Scores, bundle, content_of, n_bytes

N_ROUNDS = 1
WIDTHS = {1: 30, 10: 94, 60: 230}
"""Width of cnn3d by millions of parameters."""


def memory_plan(n_millions: int, n_sites: int, quorum: float = 1.0) -> Plan:
    """Return a plan of a large network, whose data nobody has."""
    return load(
        [
            *("experiment=smoke", "model=cnn3d", f"model.width={WIDTHS[n_millions]}"),
            *("data.prepare.shape=[16,16,16]", f"rounds.n_rounds={N_ROUNDS}", "name=memory"),
            *("rounds.evaluate_every=0", f"rounds.checkpoint_every={N_ROUNDS}"),
            *(f"rounds.min_sites={n_sites}", f"rounds.quorum={quorum}", "rounds.timeout_s=1200"),
        ]
    ).plan


class LightSite:
    """A site that answers without training: weights of its own, shifted by its number."""

    def __init__(self, number: int, connection: Any, model: Weights) -> None:
        self._number = number
        self._node_id, self._receive, self._send, _, _, self._pull, self._push, self._confirm = (
            connection
        )
        self._model = model

    def answer(self) -> bool:
        """Answer one order, if there is one."""
        received = self._receive()
        if received is None:
            return False
        message, tree = received
        run_id = message.metadata.run_id
        ids = [node.object_id for node in iterate_object_tree(tree)]
        pull_objects(ids, lambda object_id: self._pull(run_id, object_id))
        self._confirm(run_id, tree.object_id)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, self._node_id
        self._reply(self._content_reply(message))
        return True

    def _content_reply(self, message: Message) -> Message:
        if message.metadata.message_type == "train":
            shifted = {
                name: value + 1e-6 * self._number if value.is_floating_point() else value
                for name, value in self._model.items()
            }
            content = bundle(content_of(Update("", shifted, 10, 10)))
        else:
            content = content_of(Scores("", 0, 0, {}))
        return Message(content, reply_to=message)

    def _reply(self, reply: Message) -> None:
        vars(reply.metadata)["_message_id"] = reply.object_id
        with no_object_id_recompute():
            tree, objects = get_object_tree(reply), get_all_nested_objects(reply)
            wanted, session = self._send(remove_content_from_message(reply), tree, 0.0)
            for object_id in wanted:
                self._push(reply.metadata.run_id, session, object_id, objects[object_id].deflate())


class HostileSite(LightSite):
    """A site whose small answer names one array two thousand times."""

    def _content_reply(self, message: Message) -> Message:
        if message.metadata.message_type != "train":
            return super()._content_reply(message)
        one = Array(np.full(250_000, self._number, np.float32))  # 1 MB
        swollen = ArrayRecord({f"w{i}": one for i in range(2000)})
        return Message(RecordDict({"model": swollen}), reply_to=message)


def measure_memory(
    folder: Path, n_millions: int, n_sites: int, n_hostile: int = 0
) -> dict[str, float]:
    """Return the peak memory in MB of the server and of its ServerApp, and seconds a round."""
    plan = memory_plan(n_millions, n_sites, (n_sites - n_hostile) / n_sites)
    home = make_home(folder / "server", ["127.0.0.1"], free_port())
    names = [f"site{i:02d}" for i in range(n_sites)]
    for name in names:
        public = make_key_pair(folder / f"{name}.key", folder / f"{name}.pub")
        enroll(home, name, public)
    server = demo.command("server", "start", home.folder)
    peaks: dict[str, float] = {}
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(server.pid, peaks, stop))
    watcher.start()
    model = weights(build_network(plan.model, **plan.network))
    time.sleep(8)
    signed = sign_plan(plan, home.signing_key.read_bytes())
    started = time.monotonic()
    try:
        with ExitStack() as stack:
            connections = [
                stack.enter_context(_connect(home, folder / f"{name}.key")) for name in names
            ]
            light = [
                (HostileSite if i < n_hostile else LightSite)(i, connection, model)
                for i, connection in enumerate(connections)
            ]
            run = new_run(home.runs, signed, "", names)
            _answer_until_over(light, run)
        if run.note.status != "finished":  # flwr's connection keeps what went wrong to itself
            raise SystemExit(f"the run is {run.note.status}: {run.note.message}")
    finally:
        stop.set()
        watcher.join()
        server.terminate()
        server.wait()
    return {
        **peaks,
        "model": n_bytes(model) / 2**20,
        "disk": sum(f.stat().st_size for f in home.state.rglob("*") if f.is_file()) / 2**20,
        "seconds": (time.monotonic() - started) / N_ROUNDS,
        "refused": sum(record.get("status") == "R03" for record in _records(run)),
    }


def _answer_until_over(light: list[LightSite], run: RunFolder) -> None:
    while run.note.status not in OVER:
        n_answered = sum(site.answer() for site in light)
        if not n_answered:
            time.sleep(0.2)


def _connect(home: ServerHome, key: Path) -> Any:
    private = load_ssh_private_key(key.read_bytes(), None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise TypeError(type(private).__name__)
    ca, keys = home.ca_cert.read_bytes(), (private, private.public_key())
    return http_request_response(
        home.config.address, insecure=False, root_certificates=ca, authentication_keys=keys
    )


def _watch(pid: int, peaks: dict[str, float], stop: threading.Event) -> None:
    while not stop.wait(0.2):
        processes = [psutil.Process(pid)]
        processes += processes[0].children(recursive=True)
        for process in processes:
            try:
                name = "ServerApp" if process.pid != pid else "SuperLink"
                status = Path(f"/proc/{process.pid}/status").read_text()
            except (OSError, psutil.Error):
                continue
            peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "")
            if peak:
                peaks[name] = max(peaks.get(name, 0.0), int(peak.split()[1]) / 1024)


def memory(n_millions: int, counts: list[int]) -> None:
    """Print the server's peak memory by number of sites."""
    _print_memory(n_millions, [(n_sites, 0) for n_sites in counts])


def hostile(n_millions: int = 1, n_sites: int = 50, n_hostile: int = 5) -> None:
    """Print the server's peak memory without and with sites whose answers would swell."""
    _print_memory(n_millions, [(n_sites, 0), (n_sites, n_hostile)])


def _print_memory(n_millions: int, layouts: list[tuple[int, int]]) -> None:
    plan = memory_plan(n_millions, 1)
    n = n_parameters(build_network(plan.model, **plan.network))
    print(f"{n / 1e6:.1f} M parameters, {N_ROUNDS} rounds; MB, peak resident")
    print("| sites | hostile | refused | one model | SuperLink | ServerApp | disk | s a round |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for n_sites, n_hostile in layouts:
        with tempfile.TemporaryDirectory() as folder:
            found = measure_memory(Path(folder), n_millions, n_sites, n_hostile)
        names = ("refused", "model", "SuperLink", "ServerApp", "disk")
        cells = [f"{n_hostile}", *(f"{found.get(name, 0):.0f}" for name in names)]
        print(f"| {n_sites} | {' | '.join(cells)} | {found['seconds']:.1f} |", flush=True)


def start(*settings: str) -> None:
    """Print the time to the first round and the overhead of a round, beside plain flwr's."""
    plan = start_plan(settings)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "data", SyntheticConfig(n_sites=3, n_subjects=12), 0)
        own = demo.own_folders(folder / "data", folder / "scans")
        consortium = demo.make_consortium(folder, own)
        nodes = {site: _prepared(home, plan, folder) for site, home in consortium.sites.items()}
        ours, trained = _ours(consortium, plan)
        keys = {site: folder / "keys" / site for site in nodes}
        (folder / "keys").mkdir()
        for key in keys.values():
            make_key_pair(key, Path(f"{key}.pub"))
        plain = plain_flower.run(folder / "flower", consortium.server, plan, keys, nodes)
    print(
        f"3 sites, {n_parameters(build_network(plan.model, **plan.network)) / 1e6:.2f} M parameters"
    )
    print(f"seconds of training in a round (longest site): {trained:.2f}")
    print("| | to the first order | first round done | a later round |")
    print("| --- | ---: | ---: | ---: |")
    for label, marks in (("fedmri", ours), ("plain flwr", plain)):
        later = statistics.median(b - a for a, b in pairwise(marks[1:-1]))
        print(f"| {label} | {marks[0]:.1f} s | {marks[1]:.1f} s | {later:.1f} s |")


def start_plan(settings: Sequence[str]) -> Plan:
    """Return a plan of a small 3D network over embedded data, without scoring between rounds."""
    return load(
        [
            *("experiment=lesion_mask", "name=start", "rounds.n_rounds=5"),
            *("rounds.evaluate_every=0", "rounds.min_sites=3", "rounds.quorum=1.0"),
            *settings,
        ]
    ).plan


def _prepared(home: ClientHome, plan: Plan, folder: Path) -> dict[str, str]:
    """Prepare a site's data before the clock starts; return what its app is told."""
    own = home.runs / sign_plan(plan, _coordinator_key(folder)).sha256
    file = prepare_own(home.config, plan, home.consortium.site, home.cache, own)
    state = folder / "flower-state" / home.consortium.site
    return {"site": home.consortium.site, "prepared": json.dumps([str(file)]), "folder": str(state)}


def _coordinator_key(folder: Path) -> bytes:
    return ServerHome(folder / "server").signing_key.read_bytes()


def _ours(consortium: demo.Consortium, plan: Plan) -> tuple[list[float], float]:
    """Return seconds from the start of the server to each mark, and the longest training."""
    marks: list[float] = []
    run = demo.submit(consortium, plan)
    started = time.monotonic()

    def look(run: RunFolder) -> None:
        kinds = [record["kind"] for record in _records(run)]
        n_rounds = kinds.count("round_total")
        n_marks = bool((run.path / "log.txt").exists()) + n_rounds + ("done" in kinds)
        marks.extend([time.monotonic() - started] * (n_marks - len(marks)))

    with demo.running(consortium):
        demo.wait(run, 600.0, look)
    look(run)
    seconds = [r["train_seconds"] for r in _records(run) if r["kind"] == "round" and r["round"] > 1]
    return marks, max(seconds)


def _records(run: RunFolder) -> list[dict[str, Any]]:
    path = run.path / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    kind, *numbers = sys.argv[1:] or ["memory"]
    if kind == "memory":
        n_millions, *counts = [int(number) for number in numbers] or [60]
        memory(n_millions, counts or [5, 20, 50])
    elif kind == "hostile":
        hostile(*map(int, numbers))
    elif kind == "start":
        start(*numbers)
    else:
        raise SystemExit(__doc__)

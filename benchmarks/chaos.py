"""What happens to a run when one process dies or freezes, or a connection breaks, at any moment.

    python benchmarks/chaos.py [N] [SEED] [VICTIM:ACTION ...]

Real processes over TLS on loopback: a coordinator and three sites, in two consortia side by side.
In each of N runs one victim is killed (SIGKILL), frozen (SIGSTOP, later SIGCONT) or cut off by a
proxy between a site and the server. What systemd would start again is started again. The final
weights are compared with those of a simulation of the same plan. Prints a Markdown table.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from fedmri.clients.ledger import verify
from fedmri.config import load
from fedmri.data.synthetic import SyntheticConfig, generate
from fedmri.errors import FedmriError
from fedmri.files import write_whole
from fedmri.plan import Plan
from fedmri.server.presence import read_presence
from fedmri.server.runs import RunFolder
from fedmri.simulation import demo

SETTINGS = (
    "experiment=smoke",
    "data.prepare.shape=[16,16,16]",
    "data.prepare.spacing_mm=12",
    "model.width=4",
    "model.norm=batch",
    "rounds.n_rounds=3",
    "rounds.min_sites=3",
    "rounds.quorum=1.0",
    "rounds.timeout_s=120",
)
STRATEGIES = ("fedavg", "fedbn")
PROCESSES = ("server", "ServerApp", "SuperNode", "worker", "client")
KINDS = (
    *((victim, action) for victim in PROCESSES for action in ("kill", "stop")),
    *(("connection", action) for action in ("cut", "stall", "delay", "reset")),
)
MARKS = {
    "ServerApp": "flwr-serverapp",
    "SuperNode": "clients.supernode",
    "worker": "clients.worker",
}
ONLINE_S = 180.0
LONGEST_S = 420.0
N_LANES = 2


@dataclass(frozen=True)
class Scenario:
    """What is done to whom; ``at`` is a part of the time that a run takes undisturbed."""

    number: int
    strategy: str
    victim: str
    action: str
    site: str
    at: float
    for_s: float

    @property
    def what(self) -> str:
        """The action in words."""
        if self.action == "kill":
            again = (
                f", again after {self.for_s:.0f} s" if self.victim in ("server", "client") else ""
            )
            return f"kill{again}"
        return f"{self.action} for {self.for_s:.0f} s"


@dataclass
class Outcome:
    """What came of it."""

    told: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    is_right: bool = False


class Proxy:
    """A TCP relay that a test can break: ``pass``, ``cut``, ``stall``, ``delay`` or ``reset``."""

    def __init__(self, port: int) -> None:
        self.mode = "pass"
        self._target = port
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: str) -> None:
        """Change what happens to bytes; ``cut`` and ``reset`` end what is open."""
        self.mode = mode
        if mode in ("cut", "reset"):
            for one in list(self._open):
                _reset(one)

    def _accept(self) -> None:
        while True:
            inner, _ = self._listener.accept()
            if self.mode == "cut":
                _reset(inner)
                continue
            try:
                outer = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                _reset(inner)
                continue
            outer.settimeout(None)
            self._open |= {inner, outer}
            for ends in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._relay, args=ends, daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                while self.mode == "stall":
                    time.sleep(0.1)
                if self.mode == "delay":
                    time.sleep(random.uniform(0.2, 3.0))
                if self.mode == "reset" and random.random() < 0.3:
                    break
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            self._open.discard(one)
            _reset(one)


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.shutdown(socket.SHUT_RDWR)
    one.close()


class Lane:
    """A running consortium that takes one run after another."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.consortium = demo.make_consortium(folder, demo.own_folders(data, folder / "scans"))
        self.proxies: dict[str, Proxy] = {}
        for name, home in self.consortium.sites.items():
            proxy = self.proxies[name] = Proxy(self.consortium.server.config.port)
            through = replace(home.consortium, address=f"127.0.0.1:{proxy.port}")
            write_whole(home.consortium_file, through.to_json())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.usual_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run all processes; say who is slow to end."""
        try:
            for name in ("server", *self.consortium.sites):
                self.start(name)
            yield
        finally:
            self.end()

    def end(self) -> None:
        """End all processes; say who is slow to end."""
        for name, process in self.processes.items():
            process.send_signal(signal.SIGCONT)
            process.terminate()
            began = time.monotonic()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            taken = time.monotonic() - began
            print(f"{name} ended {taken:.1f} s after SIGTERM", file=sys.stderr, flush=True)

    def start(self, name: str) -> None:
        """Start a coordinator or a site, as systemd would."""
        if name == "server":
            self.processes[name] = demo.command("server", "start", self.consortium.server.folder)
        else:
            folder = self.consortium.sites[name].folder
            self.processes[name] = demo.command("client", "start", folder)

    def wait_online(self) -> bool:
        """Wait until the server sees all sites; tell whether they came."""
        deadline = time.monotonic() + ONLINE_S
        while time.monotonic() < deadline:
            seen = read_presence(self.consortium.server)
            if seen.is_server_running and all(map(seen.is_online.get, self.consortium.sites)):
                return True
            time.sleep(0.5)
        return False

    def find(self, scenario: Scenario, deadline: float) -> psutil.Process | None:
        """Return the victim; wait for it where it is not there yet."""
        parent = "server" if scenario.victim in ("server", "ServerApp") else scenario.site
        if scenario.victim in ("server", "client"):
            return psutil.Process(self.processes[parent].pid)
        while time.monotonic() < deadline:
            for child in _children(self.processes[parent].pid):
                if MARKS[scenario.victim] in _command(child):
                    return child
            time.sleep(0.1)
        return None

    def warm_up(self, plan: Plan, right: str) -> None:
        """Make an undisturbed run, for its time."""
        self.wait_online()
        began = time.monotonic()
        run = demo.submit(self.consortium, plan, "undisturbed")
        is_right = demo.wait(run, LONGEST_S, lambda run: None) == right
        self.usual_s = time.monotonic() - began
        what = f"undisturbed: {self.usual_s:.0f} s, right bits: {is_right}"
        print(what, wrong_records(run, plan), file=sys.stderr, flush=True)

    def strike(self, scenario: Scenario, outcome: Outcome) -> None:
        """Do what the scenario says, and mend what systemd or the network would mend."""
        if scenario.victim == "connection":
            proxy = self.proxies[scenario.site]
            proxy.set(scenario.action)
            time.sleep(scenario.for_s)
            proxy.set("pass")
            return
        victim = self.find(scenario, time.monotonic() + 30)
        if victim is None:
            outcome.told.append("the victim was not there")
        elif scenario.action == "stop":
            victim.suspend()
            time.sleep(scenario.for_s)
            with suppress(psutil.NoSuchProcess):
                victim.resume()
        else:
            self._kill(victim, scenario, outcome)

    def _kill(self, victim: psutil.Process, scenario: Scenario, outcome: Outcome) -> None:
        left = _children(victim.pid)
        victim.kill()
        if scenario.victim not in ("server", "client"):
            return
        name = "server" if scenario.victim == "server" else scenario.site
        self.processes[name].wait()
        _, orphans = psutil.wait_procs(left, timeout=scenario.for_s)
        outcome.faults += [
            f"orphan after {scenario.for_s:.0f} s: {_command(p)[:60]}" for p in orphans
        ]
        time.sleep(max(0.0, scenario.for_s - 1))
        self.start(name)

    def n_serverapps(self) -> int:
        """Return how many ServerApps of this consortium run, whoever started them."""
        mine = str(self.consortium.server.folder)
        found = (_command(p) for p in psutil.process_iter())
        return sum("flwr-serverapp" in text and mine in text for text in found)


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def go(lane: Lane, scenario: Scenario, plan: Plan, right: str) -> Outcome:
    """Make one run with its disturbance; return what happened."""
    outcome = Outcome()
    if not lane.wait_online():
        outcome.faults.append("sites are missing before the run")
    began = time.monotonic()
    run = demo.submit(lane.consortium, plan, f"run-{scenario.number:03d}")
    striker = threading.Thread(
        target=lambda: (
            time.sleep(scenario.at * lane.usual_s),
            lane.strike(scenario, outcome),
        )
    )
    striker.start()
    seen = _Watch(lane)
    for _ in range(3):
        try:
            outcome.is_right = demo.wait(run, LONGEST_S, seen) == right
            break
        except FedmriError as error:
            outcome.told.append(str(error).split(": found ")[-1][:160])
            if run.note.status not in ("failed", "stopped"):
                outcome.faults.append("no end in sight")
                break
            striker.join()
            run.queue_again()
            outcome.told.append("resumed")
    outcome.seconds = time.monotonic() - began
    lane.usual_s = min(lane.usual_s, outcome.seconds)  # the first run prepared the data as well
    outcome.told = [*seen.told(), *outcome.told]
    if not striker.is_alive() or scenario.action == "stop":
        outcome.faults += wrong_records(run, plan) if outcome.is_right else []
    striker.join()
    outcome.faults += [f"{seen.most} ServerApps at once"] if seen.most > 1 else []
    for home in lane.consortium.sites.values():
        verify(home.ledger)
    return outcome


class _Watch:
    """Notes what the coordinator would see."""

    def __init__(self, lane: Lane) -> None:
        self.most = 0
        self._looked = 0.0
        self._lane = lane
        self._seen: list[str] = []

    def __call__(self, run: RunFolder) -> None:
        """Look once."""
        if time.monotonic() - self._looked > 1:
            self._looked = time.monotonic()
            self.most = max(self.most, self._lane.n_serverapps())
        note = run.note
        text = f"{note.status}: {note.message}" if note.message else note.status
        if not self._seen or self._seen[-1] != text:
            self._seen.append(text)

    def told(self) -> list[str]:
        """Return the messages, without those of a run that nothing happened to."""
        return [text for text in self._seen if text not in ("queued", "running", "finished")]


def wrong_records(run: RunFolder, plan: Plan) -> list[str]:
    """Return what is missing or double among the records of a finished run."""
    lines = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    found = Counter((r["kind"], r["round"], r.get("site"), r.get("status", "ok")) for r in records)
    sites, n_rounds = run.note.members, plan.rounds.n_rounds
    want = Counter({("test", n_rounds, site, "ok"): 1 for site in sites})
    want["done", n_rounds, None, "ok"] = 1
    for index in range(1, n_rounds + 1):
        want["round_total", index, None, "ok"] = 1
        want.update((kind, index, s, "ok") for kind in ("round", "validation") for s in sites)
    return [f"record {key}: {found[key]}" for key in {*found, *want} if found[key] != want[key]]


def scenarios(n: int, seed: int, only: list[str]) -> list[Scenario]:
    """Return what is done in each run; every kind has its turn before one has its second."""
    draw, kinds = random.Random(seed), [k for k in KINDS if not only or ":".join(k) in only]
    order = [kind for _ in range(-(-n // len(kinds))) for kind in draw.sample(kinds, len(kinds))]
    made = []
    for number, (victim, action) in enumerate(order[:n], 1):
        for_s = draw.uniform(1, 20) if action == "kill" else draw.uniform(5, 90)
        site, at = f"site0{draw.randint(1, 3)}", draw.uniform(0.05, 0.9)
        strategy = STRATEGIES[number % len(STRATEGIES)]
        made.append(Scenario(number, strategy, victim, action, site, at, for_s))
    return made


def row(scenario: Scenario, outcome: Outcome) -> str:
    """Return the line of the table."""
    who = scenario.victim
    if who not in ("server", "ServerApp"):
        who += f" of {scenario.site}"
    happened = "; ".join([*outcome.told, *(f"FAULT {text}" for text in outcome.faults)])
    cells = [scenario.number, scenario.strategy, who, scenario.what, f"{scenario.at:.0%}"]
    cells += [happened.replace("|", "/") or "went on", f"{outcome.seconds:.0f}"]
    cells += ["yes" if outcome.is_right else "NO"]
    return "| " + " | ".join(map(str, cells)) + " |"


def work(
    lane: Lane, todo: queue.Queue[Scenario], plans: dict[str, Plan], right: dict[str, str]
) -> None:
    """Make one run after another until none is left."""
    with lane.running(), suppress(queue.Empty):
        lane.warm_up(plans[STRATEGIES[0]], right[STRATEGIES[0]])
        while True:
            scenario = todo.get_nowait()
            outcome = go(lane, scenario, plans[scenario.strategy], right[scenario.strategy])
            print(row(scenario, outcome), flush=True)


def main() -> None:
    """Run the scenarios and print the table."""
    numbers = [int(text) for text in sys.argv[1:3]]
    n, seed = (*numbers, *(40, 0)[len(numbers) :])
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = Path(tempfile.mkdtemp(prefix="fedmri-chaos-"))
    data = folder / "data"
    generate(data, SyntheticConfig(n_sites=3, n_subjects=6, spacing_mm=8), 0)
    plans = {s: load([*SETTINGS, f"strategy={s}", f"name={s}"]).plan for s in STRATEGIES}
    right = {s: demo.simulated(p, data, folder / s, folder / "cache") for s, p in plans.items()}
    todo: queue.Queue[Scenario] = queue.Queue()
    for scenario in scenarios(n, seed, sys.argv[3:]):
        todo.put(scenario)

    print(f"In {folder}", file=sys.stderr, flush=True)
    print("| run | strategy | victim | action | after | what happened | seconds | right bits |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    lanes = [Lane(folder / f"lane-{i}", data) for i in range(N_LANES)]
    threads = [threading.Thread(target=work, args=(lane, todo, plans, right)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()

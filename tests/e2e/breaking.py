"""A consortium of real processes, of which one dies, freezes or is cut off during a run."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from fedmri.clients.egress.ledger import verify
from fedmri.clients.process.home import ClientHome
from fedmri.errors import FedmriError
from fedmri.machine.files import write_whole
from fedmri.plan import Plan
from fedmri.server.registry.presence import read_presence
from fedmri.server.runs import RunFolder
from fedmri.simulation import demo
from tests.e2e.proxy import Proxy

log = logging.getLogger("chaos")

MARKS = {
    "ServerApp": "flwr-serverapp",
    "SuperNode": "clients.supernode",
    "worker": "clients.worker",
}
ONLINE_S = 180.0
LONGEST_S = 420.0
LONGEST_END_S = 10.0


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
        if self.action in ("kill", "end"):
            again = (
                f", again after {self.for_s:.0f} s" if self.victim in ("server", "client") else ""
            )
            return f"{self.action}{again}"
        return f"{self.action} for {self.for_s:.0f} s"


@dataclass
class Outcome:
    """What came of it."""

    told: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    is_right: bool = False


AUTOMATIC = "is_approval_automatic: true"


def ask_before_each_plan(site: ClientHome) -> None:
    """Set a hospital to look at each plan itself; until it approves, it says nothing."""
    text = site.settings_file.read_text(encoding="utf-8")
    assert AUTOMATIC in text
    write_whole(site.settings_file, text.replace(AUTOMATIC, "is_approval_automatic: false"))


class Lane:
    """A running consortium that takes one run after another.

    Args:
        folder: Where it lies.
        data: A BIDS data set; each of its sites is one of the consortium.
        silent: A site that never approves a plan; "" for none.
    """

    def __init__(self, folder: Path, data: Path, silent: str = "") -> None:
        self.silent = silent
        self.consortium = demo.make_consortium(folder, demo.own_folders(data, folder / "scans"))
        self.proxies: dict[str, Proxy] = {}
        for name, home in self.consortium.sites.items():
            proxy = self.proxies[name] = Proxy(self.consortium.server.config.port)
            through = replace(home.consortium, address=f"127.0.0.1:{proxy.port}")
            write_whole(home.consortium_file, through.to_json())
        if silent:
            ask_before_each_plan(self.consortium.sites[silent])
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
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        began = time.monotonic()
        for name, process in self.processes.items():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            taken = time.monotonic() - began
            log.info("%s ended %.1f s after SIGTERM", name, taken)

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
        wrong = wrong_records(run, plan, self.silent)
        log.info("undisturbed: %.0f s, right bits: %s %s", self.usual_s, is_right, wrong)

    def strike(self, scenario: Scenario, outcome: Outcome) -> None:
        """Do what the scenario says, and mend what systemd or the network would mend."""
        time.sleep(scenario.at * self.usual_s)
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
        left, began = _children(victim.pid), time.monotonic()
        victim.send_signal(signal.SIGTERM if scenario.action == "end" else signal.SIGKILL)
        if scenario.victim not in ("server", "client"):
            return
        name = "server" if scenario.victim == "server" else scenario.site
        self.processes[name].wait()
        taken = time.monotonic() - began
        outcome.faults += [f"{name} took {taken:.0f} s to end"] if taken > LONGEST_END_S else []
        _, alive = psutil.wait_procs(left, timeout=scenario.for_s)
        orphans = [text for text in map(_command, alive) if text]  # a zombie has none
        outcome.faults += [f"orphan after {scenario.for_s:.0f} s: {t[:60]}" for t in orphans]
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
    striker = threading.Thread(target=lane.strike, args=(scenario, outcome))
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
        outcome.faults += wrong_records(run, plan, lane.silent) if outcome.is_right else []
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


def wrong_records(run: RunFolder, plan: Plan, silent: str) -> list[str]:
    """Return what is missing or double among the records of a run, but for a silent site."""
    lines = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    found: Counter[tuple[object, ...]] = Counter(
        (r["kind"], r["round"], r.get("site"), r.get("status", "ok"))
        for r in records
        if r["kind"] != "harmonized" and (not silent or r.get("site") != silent)
    )
    n_rounds = plan.rounds.n_rounds
    sites = [site for site in run.note.members if site != silent]
    want: Counter[tuple[object, ...]] = Counter(
        {("test", n_rounds, site, "ok"): 1 for site in sites}
    )
    want["done", n_rounds, None, "ok"] = 1
    for index in range(1, n_rounds + 1):
        want["round_total", index, None, "ok"] = 1
        want.update((kind, index, s, "ok") for kind in ("round", "validation") for s in sites)
    return [f"record {key}: {found[key]}" for key in {*found, *want} if found[key] != want[key]]

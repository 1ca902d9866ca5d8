"""Twenty hospitals and their coordinator as processes, and what happens to them in a month."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.app import Message

from fedmri.agreement.sealed import LETTER, ORDERS, address_of
from fedmri.clients.process.enrolment import join
from fedmri.clients.process.home import ClientHome
from fedmri.clients.views.page import Watch, decide
from fedmri.clients.views.terminal import lines_of
from fedmri.data.preparation.prepared import read_site
from fedmri.machine.clock import utc
from fedmri.machine.files import write_whole
from fedmri.server.registry.home import ServerHome
from fedmri.server.runs import OVER, RunFolder
from fedmri.server.transport.superlink import free_port
from fedmri.server.views.notices import notices
from fedmri.server.views.status import read_run
from fedmri.simulation import demo
from fedmri.simulation.engines.in_process import InProcessGrid
from fedmri.wire import round_of
from tests.e2e.breaking import ask_before_each_plan
from tests.e2e.test_silent import records
from tests.e2e.test_standing import fedmri, until

END_S = 30.0
LOOK_S = 1.0
"""Pause between two looks at what everybody is told."""
DURATION = re.compile(r", for [^:;.\[]*(?:\.\d [^:;.\[]*)?")
REASON = "our ethics board meets in June"


@dataclass(frozen=True)
class Cast:
    """Who does what.

    Attributes:
        nightly: Train at night alone.
        carried: Has a client that looks into the mailbox.
        job: Is a job at night that answers what lies in the mailbox.
        refusing: Reads the plan and says no.
        leaving: Is revoked.
        bereft: A patient of it withdraws.
        away: Loses its machine for a while.
    """

    nightly: tuple[str, ...] = ("site01", "site02", "site05")
    carried: str = "site04"
    job: str = "site05"
    refusing: str = "site06"
    leaving: str = "site07"
    bereft: str = "site17"
    away: str = "site09"


@dataclass
class Month:
    """The processes of a month, and what everybody was told in it.

    Attributes:
        consortium: The coordinator and its sites.
        mailbox: The shared folder.
        cast: Who does what.
        told: Each line that a hospital's view had, by site.
        said: Each notice that the coordinator had, without its duration.
    """

    consortium: demo.Consortium
    mailbox: Path
    cast: Cast = field(default_factory=Cast)
    name: str = "month"
    told: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    said: set[str] = field(default_factory=set)
    is_night: bool = False
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _is_tried: bool = False
    _n_rounds: int = -1

    def prepare(self) -> None:
        """Let hospitals set what they want, before their clients start."""
        self.mailbox.mkdir()
        self.day()
        ask_before_each_plan(self.site(self.cast.refusing))
        self._set(self.cast.refusing, "  # is_reason_told: false", "  is_reason_told: true")

    def site(self, name: str) -> ClientHome:
        """Return a hospital's folder."""
        return ClientHome(self.consortium.sites[name].folder)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Run all processes."""
        try:
            for name in ("server", *self.consortium.sites):
                self.start(name)
            yield
        finally:
            self.stop(*self._processes)

    def start(self, *names: str) -> None:
        """Start processes."""
        for name in names:
            if name == "server":
                process = demo.command("server", "start", self.consortium.server.folder)
            elif name == self.cast.job:
                continue
            else:
                words = ["--mailbox", str(self.mailbox)] if name == self.cast.carried else []
                process = demo.command("client", "start", self.site(name).folder, *words)
            self._processes[name] = process

    def stop(self, *names: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End processes."""
        ended = [self._processes.pop(name) for name in names if name in self._processes]
        for process in ended:
            process.send_signal(number)
        for process in ended:
            process.wait(END_S)

    def night(self) -> None:
        """Let night fall: an hour before and after now are among the hours of training."""
        self._set_hours(0)
        self.is_night = True

    def day(self) -> None:
        """Let day break: the hours of training are half a day away."""
        self._set_hours(12)
        self.is_night, self._is_tried = False, False

    def refuse(self) -> None:
        """Let a hospital's people refuse what their page shows them."""
        decide(
            self.site(self.cast.refusing),
            {"decision": "refuse", "run": self.name, "reason": REASON},
        )

    def restart(self) -> None:
        """Kill the coordinator's process, and start it again."""
        self.stop("server", number=signal.SIGKILL)
        self.start("server")

    def fall(self) -> None:
        """Take a hospital's power away."""
        self.stop(self.cast.away, number=signal.SIGKILL)

    def withdraw(self) -> None:
        """Let a patient of a hospital withdraw."""
        done = fedmri(self.site(self.cast.bereft).folder, "client", "forget", self.patient)
        assert done.returncode == 0, done.stderr

    @property
    def patient(self) -> str:
        """The patient who withdraws: one whom their hospital trains on."""
        plan = self.site(self.cast.bereft).runs / self.going.signed.sha256
        [prepared] = plan.glob("*/prepared.json")
        return next(one.subject for one in read_site(prepared).scans if one.split == "train")

    def revoke(self) -> None:
        """Shut a hospital out."""
        done = fedmri(self.consortium.server.folder, "server", "revoke", self.cast.leaving)
        assert done.returncode == 0, done.stderr
        assert self._processes.pop(self.cast.leaving).wait(END_S) == 5

    def move(self) -> None:
        """Serve from another folder and address; hospitals join by their new files.

        A quick month comes here before the server misses the hospital without power.
        """
        until(self._is_missed, "the coordinator is told that a hospital is away")
        live = [name for name in self.consortium.sites if name != self.cast.leaving]
        self.stop("server", *live)
        server = moved(self.consortium.server)
        self.consortium = replace(self.consortium, server=server)
        self.start("server")
        for name in live:
            join(self.site(name), server.enrolments / f"{name}.json")
            self.start(name)

    def _is_missed(self) -> bool:
        self.look()
        return any(text.startswith(f"{self.cast.away} is not online") for text in self.said)

    @property
    def going(self) -> RunFolder:
        """The run, wherever the coordinator is."""
        return RunFolder(self.consortium.server.runs / self.name)

    def look(self) -> None:
        """Do what a site's cron does, and read what everybody is told."""
        self._run_job()
        status = read_run(self.consortium.server, self.name)
        self.said |= {DURATION.sub("", text) for text in notices(status, utc())}
        if status.round_index != self._n_rounds:
            self._n_rounds = status.round_index
            for name in self.consortium.sites:
                self.read(name)

    def read(self, name: str) -> list[str]:
        """Return the lines of a hospital's view, and keep them."""
        lines = list(lines_of(Watch(self.site(name).folder).state()))
        self.told[name].update(lines)
        return lines

    def _run_job(self) -> None:
        """Answer letters by a job as a site's cron does: at night, and once a day by hand."""
        job = self._processes.get(self.cast.job)
        is_idle = job is None or job.poll() is not None
        is_due = self.is_night or not self._is_tried
        if is_idle and is_due and self._letters_for(self.cast.job):
            folder, words = self.site(self.cast.job).folder, ["--mailbox", str(self.mailbox)]
            self._processes[self.cast.job] = demo.command("client", "once", folder, *words)
            self._is_tried = True

    def _letters_for(self, name: str) -> bool:
        key = load_ssh_public_key(self.site(name).public_key.read_bytes())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return any((self.mailbox / ORDERS / address_of(key)).glob(f"*{LETTER}"))

    def _set_hours(self, n_later: int) -> None:
        now = dt.datetime.now()  # a hospital's own clock
        begin, end = (now + dt.timedelta(hours=n_later + n) for n in (-1, 1))
        hours = f'train_hours: "{begin:%H:%M}-{end:%H:%M}"'
        for name in self.cast.nightly:
            self._set(name, r'(# )?train_hours: ".*"', hours)

    def _set(self, name: str, pattern: str, line: str) -> None:
        file = self.site(name).settings_file
        text, n = re.subn(f"^{pattern}$", line, file.read_text(), flags=re.M)
        assert n == 1
        write_whole(file, text)


def moved(home: ServerHome) -> ServerHome:
    """Return the server's folder on another machine: from its backup, with another address."""
    folder = home.folder.with_name("elsewhere")
    shutil.copytree(home.folder, folder, ignore=shutil.ignore_patterns("state"))
    shutil.rmtree(home.folder)
    new = ServerHome(folder)
    text = new.settings_file.read_text(encoding="utf-8")
    text = re.sub(r"^port: \d+", f"port: {free_port()}", text, flags=re.M)
    new.settings_file.write_text(text.replace("127.0.0.1", "127.0.0.2"), encoding="utf-8")
    done = fedmri(folder, "server", "renew")
    assert done.returncode == 0, done.stderr
    return ServerHome(folder)


def live_through(
    month: Month, events: Mapping[int, Sequence[Callable[[], None]]], longest_s: float
) -> str:
    """Let things happen once their round is over; return the SHA-256 at the end."""
    waiting, deadline = dict(events), time.monotonic() + longest_s
    while month.going.note.status not in OVER:
        assert time.monotonic() < deadline, month.going.note
        month.look()
        n_rounds = len(records(month.going, "round_total"))
        for at in [one for one in waiting if one <= n_rounds]:
            for happen in waiting.pop(at):
                happen()
        time.sleep(LOOK_S)
    assert not waiting
    return demo.wait(month.going, demo.POLL_S, lambda _: None)


class Bereft(InProcessGrid):
    """A simulated grid one of whose sites trains without a patient in some rounds.

    Args:
        site: Its name.
        without: Prepared file of its data without the patient.
        rounds: Rounds that it trained without.
        given: See ``InProcessGrid``.
    """

    def __init__(self, site: str, without: str, rounds: frozenset[int], *given: Any) -> None:
        super().__init__(*given)
        [self._node] = [i for i, node in self.nodes.items() if node.site == site]
        self._without, self._rounds = without, rounds
        self._with = self._contexts[self._node].node_config["prepared"]

    def stream(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Run the ClientApp over the data that the site had."""
        for message in messages:
            if message.metadata.dst_node_id == self._node:
                is_without = round_of(message.content) in self._rounds
                prepared = self._without if is_without else self._with
                self._contexts[self._node].node_config["prepared"] = prepared
            yield from super().stream([message])

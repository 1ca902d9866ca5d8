"""The coordinator's process: SuperLink, the registry of sites, and one run after another."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx

from fedmri.machine.clock import utc
from fedmri.machine.files import PRIVATE_FILE, write_whole
from fedmri.server.memory import return_large_blocks
from fedmri.server.registry.home import ServerHome
from fedmri.server.registry.presence import hold
from fedmri.server.runs import OVER, RunFolder, all_runs, write_json
from fedmri.server.transport.flower import Control, Node, key_bytes
from fedmri.server.transport.superlink import SuperLink
from fedmri.swollen import SLACK
from fedmri.trained.file.names import MODEL

log = logging.getLogger("fedmri.server")

TICK_S = 0.5
REGISTRY_S = 2.0
SILENT_S = 45.0
"""A node gives a sign of life every 30 s; after so long without one it is shown as offline."""
END_S = 4.0
"""Time that a ServerApp has to end; with that of the listeners, less than the 10 s promised."""
HOME = "FEDMRI_SERVER_DIR"
SEEN = "sites-seen.json"
FAILED = "failed.json"


def serve(home: ServerHome, stop: threading.Event) -> None:
    """Serve until told to stop; what was under way goes on when the server is back.

    Args:
        home: Folder of the coordinator.
        stop: Set by whoever wants the end; it comes within seconds.

    Raises:
        NetworkError: The port is taken (N20), or another server runs in this folder (N21).
    """
    return_large_blocks()
    home.state.mkdir(parents=True, exist_ok=True)
    _ = hold(home)  # before anything is written: a second server would spoil the first one's runs
    compact(home.database)
    for run in all_runs(home.runs):
        if run.note.status == "running" and run.note.is_served:
            run.change(status="interrupted", message="the server stopped")
    with SuperLink(home) as link:
        service = _Service(home, link)
        service.admit()  # first, so that no site is turned away for being early
        link.open()
        log.info("listening on %s:%d", home.config.host, home.config.port)
        try:
            while not stop.wait(TICK_S):
                service.tick()
        finally:
            service.end()


class _Service:
    """What the process does at every tick."""

    def __init__(self, home: ServerHome, link: SuperLink) -> None:
        self._home = home
        self._control: Control = link.control
        self._contacts = link.contacts
        link.answer_bytes = self._answer_bytes
        self._address = f"127.0.0.1:{link.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._run: RunFolder | None = None
        self._n_checkpointed = 0
        self._looked = -REGISTRY_S
        self._seen: dict[str, dict[str, object]] = _read_seen(home.state / SEEN)

    def tick(self) -> None:
        """Do what is due; what goes wrong is logged and tried again, and ends nothing else."""
        try:
            if time.monotonic() - self._looked >= REGISTRY_S:
                self._looked = time.monotonic()
                self.admit()
            if self._run is None:
                self._begin_next()
            else:
                self._mind(self._run)
        except httpx.HTTPError as error:
            log.error("own SuperLink: %s", error)
        except Exception:  # outermost frame: one broken folder never ends a server of months
            log.exception("the tick failed")

    def _answer_bytes(self) -> int:
        run = self._run
        return max(SLACK, run.answer_bytes if run is not None else 0)

    def end(self) -> None:
        """End the process of the run, which can go on later."""
        if self._process is not None and self._run is not None:
            self._terminate()
            self._run.change(status="interrupted", message="the server was stopped")

    def admit(self) -> None:
        """Register who was enrolled, unregister who was revoked, and note who is there."""
        nodes = {node.public_key: node for node in self._control.nodes()}
        sites = self._home.sites().values()
        for site in sites:
            key = key_bytes(site.public_key)
            node = nodes.pop(key, None)
            if site.is_revoked and node:
                self._control.unregister(node.node_id)
                log.warning("site %s is revoked", site.name)
            elif not site.is_revoked and node is None:
                self._control.register(site.name, site.public_key)
                log.info("site %s is enrolled", site.name)
            elif node:
                self._note_seen(site.name, node)
        for node in nodes.values():  # the registry is the truth, also where a backup came back
            self._control.unregister(node.node_id)
        current = {site.name for site in sites if not site.is_revoked}
        self._seen = {name: seen for name, seen in self._seen.items() if name in current}
        write_json(self._home.state / SEEN, self._seen)

    def _note_seen(self, name: str, node: Node) -> None:
        before, contact = self._seen.get(name, {}), self._contacts.get(node.node_id)
        # Flower takes a node that was killed for online a minute longer
        is_silent = contact is not None and time.time() - contact > SILENT_S
        is_online = node.is_online and not is_silent
        if bool(before.get("online")) != is_online:
            log.info("site %s is %s", name, "online" if is_online else "offline")
        last = before.get("last_seen") if contact is None else utc(contact)
        self._seen[name] = {"online": is_online, "last_seen": last, "node": node.node_id}

    def _begin_next(self) -> None:
        runs = [run for run in all_runs(self._home.runs) if run.note.is_served]
        waiting = [run for run in runs if run.note.status not in OVER]
        if not waiting:
            return
        run = waiting[0]
        config = {"run": run.name, "signed-plan": run.signed.to_json()}
        n_attempts = run.note.attempts + 1
        if run.note.flwr_run:
            self._stop_flwr_run(run.note.flwr_run)
        number = self._control.start_run(config)
        run.change(status="running", message="", flwr_run=number, attempts=n_attempts)
        self._run, self._n_checkpointed = run, run.n_checkpointed
        log.info("run %s begins, attempt %d", run.name, n_attempts)

    def _mind(self, run: RunFolder) -> None:
        if run.is_stop_asked:
            self._stop_flwr_run(run.note.flwr_run)
            self._terminate()
            self._over(run, "stopped", "stopped by the coordinator")
        elif self._process is None:
            self._spawn(run)
        elif self._process.poll() is not None:
            self._ended(run)
        elif run.n_checkpointed > self._n_checkpointed:
            self._n_checkpointed = run.n_checkpointed
            run.change(attempts=0)

    def _spawn(self, run: RunFolder) -> None:
        task = self._control.acquire_serverapp()
        if task is None or task[1] != run.note.flwr_run:
            return
        token = self._home.state / "token"  # not among the arguments, which any user can list
        write_whole(token, task[0], PRIVATE_FILE)
        command = [sys.executable, "-m", "fedmri.machine.child"]
        command += [str(Path(sys.executable).with_name("flwr-serverapp")), "--insecure"]
        command += ["--runtime-api-address", self._address, "--token-file", str(token)]
        command += ["--parent-pid", str(os.getpid())]
        environment = {**os.environ, HOME: str(self._home.folder)}
        environment["FLWR_HOME"] = str(self._home.state / "flwr")
        self._home.logs.mkdir(exist_ok=True)
        with (self._home.logs / "serverapp.log").open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )

    def _ended(self, run: RunFolder) -> None:
        process, self._process = self._process, None
        failed = run.path / FAILED
        if (run.path / MODEL).exists():
            self._over(run, "finished", "")
        elif failed.exists():
            self._over(run, "failed", json.loads(failed.read_text(encoding="utf-8"))["message"])
        else:
            code = process.returncode if process else None
            message = f"its process ended with {code} after {run.n_checkpointed} rounds"
            is_last = run.note.attempts >= self._home.config.max_attempts
            self._over(run, "failed" if is_last else "interrupted", message)

    def _over(self, run: RunFolder, status: str, message: str) -> None:
        run.change(status=status, message=message)
        log.info("run %s: %s %s", run.name, status, message)
        self._run = None

    def _terminate(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _stop_flwr_run(self, number: int) -> None:
        try:
            self._control.stop_run(number)
        except httpx.HTTPStatusError:  # it has ended, or a new database does not know it
            log.debug("run %d could not be stopped", number)


def compact(database: Path) -> None:
    """Give the space of messages that were answered back to the disk."""
    if database.exists():
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM")


def _read_seen(path: Path) -> dict[str, dict[str, object]]:
    try:
        seen: dict[str, dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: {**values, "online": False} for name, values in seen.items()}

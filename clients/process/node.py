"""A site's SuperNode and worker: started together, restarted together, ended together."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from fedmri.clients.consent.refusal import AGAIN
from fedmri.clients.process.flower import supernode_command
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.messages import tell_of_revoked
from fedmri.clients.process.standing import (
    LOCK,
    STANDING,
    ask_standing,
    note,
    noted,
    revoked,
    tell_of_ends,
)
from fedmri.errors import NetworkError
from fedmri.machine.child import die_with_parent
from fedmri.machine.files import hold, write_private, write_whole

log = logging.getLogger("fedmri.client")

TICK_S = 0.25
END_S = 4.0
PAUSES_S = (0.5, 2.0, 5.0, 15.0, 60.0)
"""Waits before a restart, the longer the more often it failed."""
DAY_S = 86400.0
STEADY_S = 30.0
"""A pair that ran as long has not failed at its start."""


class SiteNode:
    """The two processes of a site: Flower's SuperNode, which speaks, and the worker, which trains.

    Neither outlives the other or this process: an order that one of them lost is asked again by
    the server as soon as a new pair is online.

    Args:
        home: The site's folder.
    """

    def __init__(self, home: ClientHome) -> None:
        self._home = home
        self._run = home.folder / "state"
        self._pair: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, stop: threading.Event) -> None:
        """Keep the pair running until told to stop.

        Raises:
            PrivacyError: The coordinator has revoked this site (P12).
        """
        self._write_files()
        threading.Thread(target=self._look_at_ends, args=(stop,), daemon=True).start()
        n_failed = 0
        try:
            while not stop.is_set():
                started = time.monotonic()
                self._start()
                self._watch(stop)
                self._end()
                if stop.is_set():
                    return
                self._refuse_revoked()
                n_failed = 0 if time.monotonic() - started > STEADY_S else n_failed + 1
                stop.wait(PAUSES_S[min(n_failed, len(PAUSES_S) - 1)])
        finally:
            self._end()

    def _refuse_revoked(self) -> None:
        """Ask why the SuperNode ended: Flower tells a revoked site no more than a wrong clock."""
        standing = ask_standing(self._home)
        if noted(self._home, STANDING).get("standing") != standing:
            note(self._home, STANDING, standing=standing)
            log.info("how this site stands with the server: %s", standing)
        if standing == "revoked":
            error = revoked(self._home)
            log.error("%s", error)
            tell_of_revoked(self._home)
            raise error

    def _look_at_ends(self, stop: threading.Event) -> None:
        """Look at the consortium's certificates, now and daily: a year is a long time."""
        while True:
            tell_of_ends(self._home, is_dialled=True)
            if stop.wait(DAY_S):
                return

    def _write_files(self) -> None:
        for folder in (self._run, self._home.logs, self._home.ledger.parent, self._home.cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._run / "ca.pem", self._home.consortium.ca)

    def _start(self) -> None:
        port = _free_port()
        secret = self._run / "secret"
        secret.unlink(missing_ok=True)
        write_private(secret, secrets.token_bytes(32))
        home = self._home
        supernode = supernode_command(
            home.consortium.address, self._run / "ca.pem", home.key, port, secret
        )
        program = [sys.executable, "-m", "fedmri.clients.process.worker"]
        worker = [*program, str(home.folder), str(port)]
        environment = {**os.environ, "FLWR_HOME": str(self._run / "flwr")}
        self._pair = {
            "SuperNode": _spawn(supernode, home.logs / "supernode.log", environment),
            "worker": _spawn([*worker, str(secret)], home.logs / "worker.log", environment),
        }
        note(home, STANDING, standing="started")
        log.info("SuperNode and worker started, for %s", home.consortium.address)

    def _watch(self, stop: threading.Event) -> None:
        """Return when one of the two has ended, when it is time to stop, or to come anew."""
        again = self._home.folder / AGAIN
        while not stop.wait(TICK_S):
            if again.exists():  # people here took a refusal back: who comes anew is asked again
                again.unlink(missing_ok=True)
                return
            for name, process in self._pair.items():
                if process.poll() is not None:
                    log.warning("%s ended with %d; both start again", name, process.returncode)
                    return

    def _end(self) -> None:
        """End both; a process that is stopped or busy is killed."""
        for process in self._pair.values():
            process.terminate()
        deadline = time.monotonic() + END_S
        for process in self._pair.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._pair = {}


def _spawn(
    command: list[str], output: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    with output.open("ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=dict(environment),
            preexec_fn=die_with_parent,
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def lock(home: ClientHome) -> int:
    """Return a lock on the folder: two clients of one site would answer each other's orders.

    Raises:
        NetworkError: Another client runs in this folder (N21).
    """
    try:
        number = hold(home.folder / LOCK)
    except BlockingIOError as error:
        fix = "end the other one, or use another folder"
        want = "no other client in this folder"
        raise NetworkError("N21", str(home.folder), found="one", want=want, fix=fix) from error
    os.truncate(number, 0)
    os.write(number, f"{os.getpid()}\n".encode())
    return number

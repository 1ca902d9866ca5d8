"""SuperLink in this process: one listener for the sites, one on loopback for ourselves."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

import uvicorn

from fedmri.errors import NetworkError
from fedmri.server.registry.home import ServerHome
from fedmri.server.transport.allowance import Allowance
from fedmri.server.transport.callers import Asker, asker_of, caller_of
from fedmri.server.transport.delivery import hold_back_parts, notice_lost_orders
from fedmri.server.transport.doors import Doorkeeper, PatientLoop, raise_file_limit
from fedmri.server.transport.flower import Control, Secrets, key_bytes, superlink_app
from fedmri.server.transport.front import FleetOnly
from fedmri.swollen import SLACK

GRACE_S = 3
START_S = 30.0


class SuperLink:
    """Flower's server while it runs.

    Sites reach ``config.host:port`` over TLS. Control and runtime calls are taken on a loopback
    port alone, and need secrets that this process made and never wrote.

    Attributes:
        contacts: When each node was heard of last, in seconds since the epoch.
        answer_bytes: Returns the most bytes that an answer to the current run's orders may have.

    Args:
        home: Folder of the coordinator.
    """

    def __init__(self, home: ServerHome) -> None:
        raise_file_limit()
        self.port = free_port()
        known = Secrets.fresh()
        home.database.parent.mkdir(parents=True, exist_ok=True)
        app = superlink_app(home.database, self.port, known)
        state = app.state.linkstate_factory.state()
        notice_lost_orders(state)
        hold_back_parts(state)
        config = home.config
        self._inner = _Listener(app, host="127.0.0.1", port=self.port)
        self._outer = _Listener(
            FleetOnly(
                app,
                partial(caller_of, state),
                partial(_asker_of, home),
                self._note,
                Allowance(lambda: self.answer_bytes()),
            ),
            host=config.host,
            port=config.port,
            ssl_certfile=str(home.tls_cert),
            ssl_keyfile=str(home.tls_key),
            lifespan="off",
            http=Doorkeeper,  # of h11: the other parser takes headers without an end
            loop=f"{PatientLoop.__module__}:{PatientLoop.__name__}",
            server_header=False,
        )
        self.contacts: dict[int, float] = {}
        self.answer_bytes: Callable[[], int] = lambda: SLACK
        self._known = known
        self._address = f"{config.host}:{config.port}"

    def __enter__(self) -> SuperLink:
        """Listen on loopback."""
        self._start(self._inner)
        self.control = Control(self.port, self._known)
        return self

    def open(self) -> None:
        """Listen to the sites.

        Raises:
            NetworkError: The port is taken (N20).
        """
        self._start(self._outer)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening; whoever is in the middle of a call has a few seconds."""
        if hasattr(self, "control"):
            self.control.close()
        for listener in (self._outer, self._inner):
            listener.ask_to_stop()
        for listener in (self._outer, self._inner):
            listener.wait()

    def _note(self, node_id: int) -> None:
        self.contacts[node_id] = time.time()

    def _start(self, listener: _Listener) -> None:
        if not listener.start():
            fix = "end the other program, or choose another port in server.yaml"
            found = "a port that is taken or not allowed"
            raise NetworkError("N20", self._address, found=found, want="a free port", fix=fix)


def _asker_of(home: ServerHome, headers: Mapping[bytes, bytes]) -> Asker | None:
    known = {key_bytes(site.public_key): site.is_revoked for site in home.sites().values()}
    return asker_of(known, headers)


class _Listener:
    """A uvicorn server in a thread."""

    def __init__(self, app: Any, **options: Any) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
            **options,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> bool:
        """Start and tell whether it listens."""
        self._thread.start()
        deadline = time.monotonic() + START_S
        while self._thread.is_alive() and time.monotonic() < deadline:
            if self._server.started:
                return True
            time.sleep(0.02)
        return False

    def ask_to_stop(self) -> None:
        """Take no further calls; those under way have a few seconds."""
        self._server.should_exit = True

    def wait(self) -> None:
        """Wait for the end, but not for ever."""
        if self._thread.is_alive():
            self._thread.join(GRACE_S + 2)

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:  # what uvicorn does where it cannot bind
            return


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

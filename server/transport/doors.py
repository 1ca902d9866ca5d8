"""Connections of strangers: they have a deadline and a number, so that sites always get in."""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from fedmri.server.transport.thinned import Thinned

CLOSED = Thinned(logging.getLogger("fedmri.server"), logging.INFO)

HANDSHAKE_S = 10.0
HEAD_S = 15.0
"""Longest time without a request, whole to the end of its headers, on an open connection."""
BODY_S = 60.0
"""Longest silence in the middle of a request's body."""
MOST, MOST_OF_ONE = 500, 100
"""Open connections in all, and of one address: a site has a few, and many sites may share one."""


class PatientLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait a minute for a TLS handshake."""

    async def create_server(self, *given: Any, ssl: Any = None, **named: Any) -> Any:
        """Listen, with a deadline for handshakes."""
        if ssl is not None:
            named.setdefault("ssl_handshake_timeout", HANDSHAKE_S)
        return await super().create_server(*given, ssl=ssl, **named)


class Doorkeeper(H11Protocol):
    """One connection, which is closed when it is one too many or says nothing whole in time."""

    _since = 0.0
    _heard = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a connection, or close it."""
        super().connection_made(transport)
        self._since = self._heard = self.loop.time()
        address = self.client[0] if self.client else ""
        same = sum((c.client or ("",))[0] == address for c in self.connections)
        if len(self.connections) > MOST or same > MOST_OF_ONE:
            self._close("one too many")
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        self._heard = self.loop.time()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        now, cycle = self.loop.time(), self.cycle
        is_waiting = cycle is None or cycle.response_complete
        if is_waiting and now - self._since > HEAD_S:
            self._close("no whole request")
        elif not is_waiting and cycle.more_body and now - self._heard > BODY_S:
            self._close("no whole body")
        else:
            self._timer = self.loop.call_later(HEAD_S / 5, self._watch)

    def _close(self, why: str) -> None:
        CLOSED.note("closed a connection from %s: %s", self.client[0] if self.client else "", why)
        self.transport.abort()


def raise_file_limit() -> None:
    """Let the process have as many connections as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

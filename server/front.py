"""What the network sees of SuperLink: the fleet's paths, once each, and nothing else."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fedmri.server.flower import ACTIVATE, CLOSED, FLEET, SIGNATURE_HEADER

log = logging.getLogger("fedmri.server")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 64 * 2**20
"""Bytes of one request; flwr sends weights in pieces of 5 MB."""
REPLAY_S = 600.0
"""Longer than flwr takes a signed time for new (305 s after, 5 s before)."""


class FleetOnly:
    """An ASGI app that passes the calls of nodes on, and answers 404 to all others.

    Registering is closed: the coordinator's registry says who is a node. A signed activation is
    taken once, so that a recorded one lets nobody in.

    Args:
        app: SuperLink.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._activated: OrderedDict[bytes, float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status = self._refusal(scope)
        if status is None:
            await self._app(scope, receive, send)
            return
        log.warning("refused %s from %s: %d", scope["path"], _caller(scope), status)
        headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"refused\n"})

    def _refusal(self, scope: Scope) -> int | None:
        path, headers = scope["path"], dict(scope["headers"])
        if not path.startswith(FLEET) or path.startswith(CLOSED) or ".." in path:
            return 404
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length) > MAX_BODY:
            return 413
        if path == ACTIVATE and not self._is_new(headers.get(SIGNATURE_HEADER, b"")):
            return 401
        return None

    def _is_new(self, signature: bytes) -> bool:
        now = time.monotonic()
        while self._activated and next(iter(self._activated.values())) < now - REPLAY_S:
            self._activated.popitem(last=False)
        if signature in self._activated:
            return False
        self._activated[signature] = now
        return True


def _caller(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "nobody"

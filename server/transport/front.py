"""What the network sees of SuperLink: the calls of its nodes, once each, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from fedmri.server.transport.allowance import MOST_OBJECTS, Allowance, n_objects
from fedmri.server.transport.callers import (
    OPEN,
    PULL,
    PUSH,
    PUSH_OBJECT,
    STANDING,
    Asker,
    Caller,
    is_answer_of,
)
from fedmri.server.transport.thinned import Thinned

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 64 * 2**20
"""Bytes of one request; flwr sends weights in pieces of 5 MB."""
REPLAY_S = 600.0
"""Longer than flwr takes a signed time for new (305 s after, 5 s before)."""
N_LOGGED = 100
"""Letters of a path in the log."""


class FleetOnly:
    """An ASGI app that passes the calls of registered nodes on, and refuses all others.

    Paths are those that nodes need, to the letter. Who signed a call is known before a byte of its
    body is taken in. A signature is taken once, whatever it is put to, so that a recorded call lets
    nobody in. A node answers in its own name.

    Args:
        app: SuperLink.
        caller_of: Returns who signed a call by its headers, or None.
        asker_of: The same of whoever asks how it stands; None answers nobody.
        seen: Is handed the node of each call, when it begins and when it ends.
        allowance: How much each node may push; None leaves it to the size of a request.
    """

    def __init__(
        self,
        app: App,
        caller_of: Callable[[Mapping[bytes, bytes]], Caller | None],
        asker_of: Callable[[Mapping[bytes, bytes]], Asker | None] | None = None,
        seen: Callable[[int], None] = lambda _: None,
        allowance: Allowance | None = None,
    ) -> None:
        self._app = app
        self._caller_of = caller_of
        self._asker_of = asker_of
        self._seen = seen
        self._allowance = allowance
        self._taken: OrderedDict[int, float] = OrderedDict()
        self._refused = Thinned(logging.getLogger("fedmri.server"), logging.WARNING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        # the first of several headers of one name, as SuperLink reads them
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        if scope["path"] == STANDING and self._asker_of is not None:
            await self._tell(scope, headers, send)
            return
        status, caller = _refusal(scope, headers), None
        if status is None:
            caller = await asyncio.to_thread(self._caller_of, headers)
            status = None if caller and self._is_new(caller.mark) else 401
        if status is None and caller and scope["path"] in (PUSH, PUSH_OBJECT):
            body = await _whole(receive)
            receive = _again(body, receive)
            status = self._push_refusal(caller.node_id, scope["path"], body)
        if status is None:
            # what a call says of the host is nobody's business: no path is ever made of it
            kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
            if caller:
                self._seen(caller.node_id)
                send = self._counting(caller.node_id, scope["path"], send)
            await self._app({**scope, "headers": kept}, receive, send)
            if caller:
                self._seen(caller.node_id)
            return
        self._refused.note(
            "refused %.*r from %s: %d", N_LOGGED, scope["path"], _address(scope), status
        )
        answer = [(b"content-type", b"text/plain"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": answer})
        await send({"type": "http.response.body", "body": b"refused\n"})

    def _push_refusal(self, node_id: int, path: str, body: bytes) -> int | None:
        """Return the status of a push that is refused: it is none, or more than was asked for."""
        if path == PUSH and not is_answer_of(node_id, body):
            return 403
        if path == PUSH and n_objects(body) > MOST_OBJECTS:
            return 413
        if self._allowance is not None and not self._allowance.take(node_id, len(body)):
            return 413
        return None

    def _counting(self, node_id: int, path: str, send: Send) -> Send:
        """Return ``send``, by which a node is allowed the answers to the orders it is handed."""
        allowance, handed_out = self._allowance, bytearray()
        if path != PULL or allowance is None:
            return send

        async def counted(event: MutableMapping[str, Any]) -> None:
            handed_out.extend(event.get("body", b""))
            if event["type"] == "http.response.body" and not event.get("more_body"):
                allowance.give(node_id, bytes(handed_out))
            await send(event)

        return counted

    async def _tell(self, scope: Scope, headers: Mapping[bytes, bytes], send: Send) -> None:
        """Answer how the site that signed a call stands."""
        assert self._asker_of is not None
        asker = await asyncio.to_thread(self._asker_of, headers)
        is_post = scope["method"] == "POST"
        status = asker.status if is_post and asker and self._is_new(asker.mark) else 401
        start = {"type": "http.response.start", "status": status}
        await send({**start, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})

    def _is_new(self, mark: int) -> bool:
        now = time.monotonic()
        while self._taken and next(iter(self._taken.values())) < now - REPLAY_S:
            self._taken.popitem(last=False)
        if mark in self._taken:
            return False
        self._taken[mark] = now
        return True


def _refusal(scope: Scope, headers: Mapping[bytes, bytes]) -> int | None:
    if scope["path"] not in OPEN:
        return 404
    if scope["method"] != "POST":
        return 405
    length = headers.get(b"content-length", b"")
    is_told = length.isdigit() and len(length) < 10 and b"transfer-encoding" not in headers
    if not is_told or int(length) > MAX_BODY:
        return 413
    return None


async def _whole(receive: Receive) -> bytes:
    """Return the body of a request; what there is of it where the caller is gone."""
    body = bytearray()
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a function from which a body that was read can be read once more."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return received


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "nobody"

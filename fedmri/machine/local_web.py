"""A web page for this machine alone: a token for each start, no log, nothing in a cache."""

from __future__ import annotations

import hmac
import secrets
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedmri.errors import UsageError, told

HOST = "127.0.0.1"


def page_policy(nonce: str) -> str:
    """Return what a page may load: its own script and style, and answers of this address."""
    own = f"'nonce-{nonce}'"
    return (
        f"default-src 'none'; script-src {own}; style-src {own}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def private(send: Send) -> Send:
    """Return what sends an answer that no cache keeps and no other page learns of."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("content-security-policy", "default-src 'none'")
            headers["cache-control"] = "no-store"
            headers["referrer-policy"] = "no-referrer"
            headers["x-content-type-options"] = "nosniff"
        await send(message)

    return marked


class Guard:
    """Lets requests with the token through, and marks every answer as private.

    The token stands in the header, as a bearer's; for a page it may stand in the address.

    Args:
        app: What answers them.
        token: Of this start.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it."""
        if scope["type"] != "http":
            return  # a websocket is closed unanswered

        refused = PlainTextResponse("token missing or wrong", status_code=403)
        app = self._app if self._knows(Request(scope)) else refused
        await app(scope, receive, private(send))

    def _knows(self, request: Request) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = request.query_params.get("token", "") if request.method == "GET" else ""
        return hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)


def page_server(app: ASGIApp) -> uvicorn.Server:
    """Return the HTTP server of an application: no log that would hold the token, no websocket."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
        lifespan="off",
        ws="none",
    )
    return uvicorn.Server(config)


def serve_page(
    application: Callable[[str], ASGIApp],
    listener: socket.socket,
    say: Callable[[str], None],
    host: str = HOST,
) -> None:
    """Serve an application until SIGTERM or Ctrl-C.

    Args:
        application: Makes it of the token of this start.
        listener: Where it listens; closed at the end.
        say: Is told the address with the token, once the page can be opened.
        host: Of the address, as people know it.
    """
    token = secrets.token_urlsafe(24)
    server = page_server(application(token))
    _end_when_asked(server)
    shown = f"[{host}]" if ":" in host else host
    say(f"http://{shown}:{listener.getsockname()[1]}/?token={token}")
    with listener:
        server.run(sockets=[listener])


def _end_when_asked(server: uvicorn.Server) -> None:
    """Let SIGTERM and Ctrl-C end the server, also before uvicorn listens to them itself."""

    def end(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def listen(port: int, host: str = HOST) -> socket.socket:
    """Return a listening socket, of this machine alone where no other host is named.

    Raises:
        UsageError: The port cannot be had (U45).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        fix = "choose another --port, or 0 for any that is free"
        what = f"address {host}:{port} of the page"
        raise UsageError("U45", what, found=told(error), want="a free one", fix=fix) from error

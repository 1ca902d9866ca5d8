"""The coordinator's live view as a read-only page, for a browser on the same machine."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Any

from rich.console import Console
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fedmri.errors import CODES, FedmriError
from fedmri.machine.local_web import listen, page_policy, private, serve_page
from fedmri.reports.pages.templates import template
from fedmri.server.registry.home import ServerHome
from fedmri.server.views.details import DETAILS
from fedmri.server.views.notices import notices
from fedmri.server.views.status import as_json, chosen_run, read_run, read_server

View = dict[str, Any]
Read = Callable[[str], View]
"""From the name of a run, empty for the newest, to what the page shows; UsageError: no such run."""
Detail = Callable[[str, str], Response]
"""From an address of ``DETAILS`` and the name of a run to the answer; UsageError: no such run."""


def page_view(home: ServerHome, name: str) -> View:
    """Return what the page shows.

    Raises:
        UsageError: There is no such run (U52), or its files are broken (U41).
    """
    status = read_server(home)
    run = read_run(home, name) if name else chosen_run(status)
    view = as_json(status)
    codes = {code for of_run in (run.rounds if run else ()) for code in of_run.rejected.values()}
    return view | {
        "run": as_json(run) if run else None,
        "runs": [other.name for other in status.runs],
        "broken": list(status.broken.values()),
        "codes": {code: CODES[code] for code in sorted(codes) if code in CODES},
        "notices": notices(run, status.time) if run else [],
    }


def web_app(read: Read, token: str, detail: Detail | None = None) -> ASGIApp:
    """Return the application: addresses that show, none that changes anything.

    Whoever lacks the token gets 403, whatever else is asked for.

    Args:
        read: Gives what the page shows.
        token: Whoever has it may look.
        detail: Gives what ``DETAILS`` has of a run; None has none.
    """
    source = template("live.html.jinja", "fedmri.server.views")

    async def page(request: Request) -> Response:
        view = await run_in_threadpool(read, request.query_params.get("run", ""))
        nonce = secrets.token_urlsafe(16)
        headers = {"content-security-policy": page_policy(nonce)}
        return HTMLResponse(source.render(view=view, nonce=nonce), headers=headers)

    async def status(request: Request) -> Response:
        view = await run_in_threadpool(read, request.query_params.get("run", ""))
        return JSONResponse(view)

    async def details(request: Request) -> Response:
        assert detail is not None  # else it has no address
        name = request.query_params.get("run", "")
        return await run_in_threadpool(detail, request.url.path[1:], name)

    async def refuse(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), status_code=404)

    app = Starlette(
        routes=[
            *(Route("/", page), Route("/status.json", status)),
            *(Route(f"/{name}", details) for name in (DETAILS if detail else ())),
        ],
        exception_handlers={FedmriError: refuse},
    )
    return _Guard(app, token)


def serve(home: ServerHome, name: str, host: str, port: int) -> None:
    """Serve the page until SIGTERM or Ctrl-C; its address is printed first, with the token.

    Raises:
        UsageError: There is no such run (U52), or the address cannot be had (U45).
    """
    page_view(home, name)  # a wrong name is refused here, not in the browser

    def made(token: str) -> ASGIApp:
        return web_app(
            lambda asked: page_view(home, asked or name),
            token,
            lambda what, asked: DETAILS[what](home, asked or name),
        )

    serve_page(made, listen(port, host), _say, host)


def _say(address: str) -> None:
    Console(soft_wrap=True).print(f"{address}\nEnds with Ctrl-C.", markup=False, highlight=False)


class _Guard:
    """Lets a GET with the token through, and marks every answer as private."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it."""
        if scope["type"] != "http":
            return  # a websocket is closed unanswered

        await self._gate(Request(scope))(scope, receive, private(send))

    def _gate(self, request: Request) -> ASGIApp:
        given = request.query_params.get("token", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._token):
            return PlainTextResponse("token missing or wrong", status_code=403)
        if request.method != "GET":
            return PlainTextResponse("read only", status_code=405, headers={"allow": "GET"})
        return self._app

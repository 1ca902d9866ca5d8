"""A hospital's view as a page of its own machine: it shows, and takes its people's decisions."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fedmri.clients.consent import approval
from fedmri.clients.consent.refusal import refuse_run
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.standing import Standing, ask_standing
from fedmri.clients.views.state import SiteState, as_json, read_state
from fedmri.errors import FedmriError, UsageError
from fedmri.machine.local_web import Guard, listen, page_policy, serve_page
from fedmri.reports.pages.templates import template

LONGEST_ASKED = 4096
"""Bytes of a decision: a hash and a reason."""
ASK_EVERY_S = 30.0


class Watch:
    """Reads where a site stands; its server is asked at most twice a minute.

    Args:
        folder: The site's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._standing: Standing = "no answer"
        self._asked = -ASK_EVERY_S

    def state(self) -> SiteState:
        """Return where the site stands now."""
        home = ClientHome(self.folder)  # read anew: its owner may have changed it
        if time.monotonic() - self._asked >= ASK_EVERY_S:
            self._standing, self._asked = ask_standing(home), time.monotonic()
        return read_state(home, self._standing)


def decide(home: ClientHome, asked: Mapping[str, Any]) -> str:
    """Carry out a decision of the site's people; return what was done, in a sentence.

    Args:
        home: The site.
        asked: ``decision`` is ``approve`` or ``withdraw`` with the whole hash of a ``plan``, or
            ``refuse`` with a ``run`` and a ``reason``.

    Raises:
        UsageError: It is none of these (U01), or there is no such plan (U31) or run (U33).
        PrivacyError: The plan goes beyond the site's limits (P10).
        NetworkError: The coordinator did not sign it (N02).
    """
    kind, plan, run = (str(asked.get(name, "")) for name in ("decision", "plan", "run"))
    if kind == "refuse" and asked.get("reason"):
        refuse_run(home, run, str(asked["reason"]))
        return f"Run {run} is refused."
    if kind not in ("approve", "withdraw"):
        want = "approve or withdraw with a plan, or refuse with a run and a reason"
        raise UsageError(
            "U01", "decision", found=repr(kind), want=want, fix="use the page's buttons"
        )
    signed = approval.seen_plan(home, plan)
    signed.verify(home.consortium.coordinator)
    if kind == "withdraw":
        approval.withdraw(home, signed)
        return f"The approval of plan {plan[:12]} is withdrawn."
    approval.refuse_violations(home.config.policy, signed.plan)
    done = approval.approve_as_person(home, signed)
    return f"Plan {plan[:12]} is approved by {done.who}."


def web_app(watch: Watch, token: str) -> ASGIApp:
    """Return the application: two addresses that show, and one that takes decisions."""
    source = template("site.html.jinja", "fedmri.clients.views")

    def view() -> dict[str, Any]:
        return as_json(watch.state())

    async def page(_: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        text = source.render(view=await run_in_threadpool(view), nonce=nonce)
        return HTMLResponse(text, headers={"content-security-policy": page_policy(nonce)})

    async def status(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(view))

    async def decision(request: Request) -> Response:
        asked = await _asked(request)
        said = await run_in_threadpool(decide, ClientHome(watch.folder), asked)
        return JSONResponse({"said": said})

    async def refuse(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), status_code=409)

    routes = [Route("/", page), Route("/status.json", status)]
    routes.append(Route("/decision", decision, methods=["POST"]))
    return Guard(Starlette(routes=routes, exception_handlers={FedmriError: refuse}), token)


async def _asked(request: Request) -> Mapping[str, Any]:
    """Return the object of a request, or nothing where it is none or too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_ASKED:
            return {}
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def serve(folder: Path, port: int) -> None:
    """Serve the page until SIGTERM or Ctrl-C; its address is printed first, with the token.

    Raises:
        UsageError: The folder is not a site's (U21), or the address cannot be had (U45).
    """
    watch = Watch(folder)
    watch.state()  # a wrong folder is refused here, not in the browser
    serve_page(lambda token: web_app(watch, token), listen(port), _say)


def _say(address: str) -> None:
    Console(soft_wrap=True).print(f"{address}\nEnds with Ctrl-C.", markup=False, highlight=False)

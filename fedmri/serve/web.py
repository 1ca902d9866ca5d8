"""The addresses of the service: a page, and one door for scans."""

from __future__ import annotations

import asyncio
import base64
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fedmri.errors import DataError, FedmriError
from fedmri.machine.local_web import Guard, page_policy
from fedmri.reports.pages.templates import template
from fedmri.serve.limits import Limits
from fedmri.serve.upload import received, safe_name, unpacked
from fedmri.serve.worker import Answer

GZIP, PNG = "application/gzip", "image/png"
STATUS = {"D88": 413, "D89": 504}
"""Of an answer by code of what is refused; 422 for all else that is wrong with a scan."""


class Predicts(Protocol):
    """What answers a job; see ``Worker``."""

    def answer(self, path: Path, folder: Path, time_s: float) -> Answer:
        """Return what the model makes of a path, or raise within the time."""
        ...


@dataclass
class Service:
    """A model that answers one request at a time; a few more may wait.

    Attributes:
        worker: What predicts.
        limits: Of each request.
        facts: What the page says of the model.
        turn: Held by the request that is answered.
        n_here: Requests that are answered or wait.
    """

    worker: Predicts
    limits: Limits
    facts: dict[str, str]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    n_here: int = 0

    async def predict(self, request: Request) -> Response:
        """Answer an upload; nothing of it is on the disk once this returns."""
        if self.n_here > self.limits.n_waiting:
            headers = {"retry-after": "30"}
            return JSONResponse({"reason": "busy: try again later"}, 503, headers)
        self.n_here += 1
        try:
            with tempfile.TemporaryDirectory(prefix="fedmri-serve-") as folder:
                answer = await self._answered(request, Path(folder))
        except ClientDisconnect:
            return Response(status_code=499)
        except FedmriError as error:
            said = {"code": error.code, "reason": str(error)}
            return JSONResponse(said, STATUS.get(error.code, 422))
        except RuntimeError as error:
            return JSONResponse({"reason": str(error)}, 500)
        except OSError as error:  # such as a full disk; a path of this machine is not told
            return JSONResponse({"reason": f"the service: {error.strerror}"}, 507)
        finally:
            self.n_here -= 1
        return _response(answer, request)

    async def page(self, _: Request) -> Response:
        """Return the page to try the model on."""
        nonce = secrets.token_urlsafe(16)
        source = template("try.html.jinja", "fedmri.serve")
        headers = {"content-security-policy": page_policy(nonce)}
        shown = source.render(facts=self.facts, limits=self.limits, nonce=nonce)
        return HTMLResponse(shown, headers=headers)

    async def _answered(self, request: Request, folder: Path) -> Answer:
        path = folder / safe_name(request.query_params.get("name", ""))
        await received(request.stream(), path, self.limits)
        opened = await run_in_threadpool(unpacked, path, folder / "unpacked", self.limits)
        async with self.turn:
            return await run_in_threadpool(self.worker.answer, opened, folder, self.limits.time_s)


def web_app(service: Service, token: str) -> ASGIApp:
    """Return the application; 403 is all that is answered without the token."""
    routes = [
        Route("/", service.page, methods=["GET"]),
        Route("/predict", service.predict, methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), token)


def _response(answer: Answer, request: Request) -> Response:
    """Return an answer as JSON, or the one mask where that is what is accepted.

    The mask of a picture is a picture too.
    """
    if "code" in answer:
        return JSONResponse(answer, 422)
    status = 200 if answer["scans"] else 422
    if GZIP not in request.headers.get("accept", ""):
        return JSONResponse(answer, status)
    masks = [scan for scan in answer["scans"] if "mask" in scan]
    if len(masks) != 1:
        error = DataError(
            "D84",
            "answer",
            found=f"{len(masks)} masks",
            want="one, which alone can be a file",
            fix="accept application/json",
        )
        return JSONResponse({"code": error.code, "reason": str(error)}, 406)
    [mask] = masks
    headers = {"content-disposition": f'attachment; filename="{mask["file"]}"'}
    kind = PNG if mask["file"].endswith(".png") else GZIP
    return Response(base64.b64decode(mask["mask"]), 200, headers, kind)

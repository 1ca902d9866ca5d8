"""A model served on this machine until the command is ended."""

from __future__ import annotations

import secrets
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from fedmri.errors import UsageError, told
from fedmri.serve.limits import Limits
from fedmri.serve.web import Service, web_app
from fedmri.serve.worker import Worker
from fedmri.trained.describe import describe
from fedmri.trained.model import TrainedModel
from fedmri.trained.names import MODEL
from fedmri.trained.predict import refuse_incomplete

HOST = "127.0.0.1"
SHOWN = ("model", "predicts", "reads", "intended use")


def serve(model: Path, port: int, limits: Limits, say: Callable[[str], None]) -> None:
    """Serve a model on loopback until SIGTERM or Ctrl-C.

    Args:
        model: Its file, or the folder of it.
        port: Of this machine; 0 takes any that is free.
        limits: Of each request.
        say: Is told the page's address with the token, once it can be opened.

    Raises:
        UsageError: The model cannot be used (U70 to U73), or the port cannot be had (U45).
    """
    path = model / MODEL if model.is_dir() else model
    opened = TrainedModel.open(path)
    refuse_incomplete(opened.file)
    facts = describe(opened.card)
    listener = _listen(port)
    token, worker = secrets.token_urlsafe(24), Worker(path)
    service = Service(worker, limits, {name: facts[name] for name in SHOWN})
    server = _server(web_app(service, token))
    _end_when_asked(server)
    say(f"http://{HOST}:{listener.getsockname()[1]}/?token={token}")
    try:
        with listener:
            server.run(sockets=[listener])
    finally:
        worker.end()


def _server(app: ASGIApp) -> uvicorn.Server:
    """Return the HTTP server: no log that would hold the token or a patient's file name."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=2,
            lifespan="off",
            ws="none",
        )
    )


def _end_when_asked(server: uvicorn.Server) -> None:
    """Let SIGTERM and Ctrl-C end the server, also before uvicorn listens to them itself."""

    def end(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        fix = "choose another --port, or 0 for any that is free"
        what = f"address {HOST}:{port} of the service"
        raise UsageError("U45", what, found=told(error), want="a free one", fix=fix) from error

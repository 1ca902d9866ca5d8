"""A model served on this machine until the command is ended."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from fedmri.machine.local_web import HOST, end_when_asked, listen, page_server
from fedmri.serve.limits import Limits
from fedmri.serve.web import Service, web_app
from fedmri.serve.worker import Worker
from fedmri.trained.describe import describe
from fedmri.trained.model import TrainedModel
from fedmri.trained.names import MODEL
from fedmri.trained.predict import refuse_incomplete

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
    listener = listen(port)
    token, worker = secrets.token_urlsafe(24), Worker(path)
    service = Service(worker, limits, {name: facts[name] for name in SHOWN})
    server = page_server(web_app(service, token))
    end_when_asked(server)
    say(f"http://{HOST}:{listener.getsockname()[1]}/?token={token}")
    try:
        with listener:
            server.run(sockets=[listener])
    finally:
        worker.end()

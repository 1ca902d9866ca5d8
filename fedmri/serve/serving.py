"""A model served on this machine until the command is ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedmri.machine.local_web import listen, serve_page
from fedmri.serve.limits import Limits
from fedmri.serve.web import Service, web_app
from fedmri.serve.worker import Worker
from fedmri.trained.describe import describe
from fedmri.trained.file.names import MODEL
from fedmri.trained.model import TrainedModel
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
    worker = Worker(path)
    service = Service(worker, limits, {name: facts[name] for name in SHOWN})
    try:
        serve_page(lambda token: web_app(service, token), listener, say)
    finally:
        worker.end()

"""Flower's ClientApp: the same object serves a simulation and a hospital."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedmri.clients.site import Site
from fedmri.errors import FedmriError
from fedmri.wire import read_evaluate, read_train, scores_content, update_content

log = logging.getLogger("fedmri.client")

SITE_FAILED = 100
"""Flower error code of an error that fedmri explains by its own code, in the reason."""

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer an order to train with an update."""
    return _answer(
        lambda site: update_content(site.train(read_train(message.content))), message, context
    )


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer an order to evaluate with aggregate scores."""
    return _answer(
        lambda site: scores_content(site.evaluate(read_evaluate(message.content))),
        message,
        context,
    )


def _answer(work: Callable[[Site], RecordDict], message: Message, context: Context) -> Message:
    """Return the site's reply, or the code of what went wrong there."""
    try:
        return Message(work(site_of(context)), reply_to=message)
    except Exception as error:  # noqa: BLE001  # outermost frame: one site never ends a run
        return Message(Error(SITE_FAILED, _public(error, context)), reply_to=message)


def site_of(context: Context) -> Site:
    """Return the site of a context.

    ``node_config`` names the ``site``, its ``prepared`` files (JSON list) and its ``folder`` for
    the run; ``run_config`` holds the ``plan`` (JSON).
    """
    node, plan = context.node_config, str(context.run_config["plan"])
    return _open(str(node["site"]), plan, str(node["prepared"]), str(node["folder"]))


@lru_cache(maxsize=256)
def _open(name: str, plan_json: str, prepared: str, folder: str) -> Site:
    return Site(name, plan_json, [Path(path) for path in json.loads(prepared)], Path(folder))


def _public(error: Exception, context: Context) -> str:
    """Return what may be told of an error: its code. Its text stays in the site's log."""
    site = context.node_config["site"]
    if isinstance(error, FedmriError):
        log.error("site %s: %s", site, error)
        return error.public
    log.error("site %s failed", site, exc_info=error)
    return "round error R05"

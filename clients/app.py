"""Flower's ClientApp: the same object serves a simulation and a hospital."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Error, Message
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
    try:
        update = site_of(context).train(read_train(message.content))
        return Message(update_content(update), reply_to=message)
    except Exception as error:  # noqa: BLE001  # outermost frame: one site never ends a run
        return refusal(error, message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer an order to evaluate with aggregate scores."""
    try:
        scores = site_of(context).evaluate(read_evaluate(message.content))
        return Message(scores_content(scores), reply_to=message)
    except Exception as error:  # noqa: BLE001  # outermost frame: one site never ends a run
        return refusal(error, message, context)


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


def refusal(error: Exception, message: Message, context: Context) -> Message:
    """Return what may be told of an error: its code. Its text stays in the site's log."""
    site = context.node_config["site"]
    if isinstance(error, FedmriError):
        log.error("site %s: %s", site, error)
        return Message(Error(SITE_FAILED, error.public), reply_to=message)
    log.error("site %s failed", site, exc_info=error)
    return Message(Error(SITE_FAILED, "round error R05"), reply_to=message)

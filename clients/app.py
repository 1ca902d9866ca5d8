"""Flower's ClientApp: the same object serves a simulation and a hospital."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedmri.clients.egress.border import (
    Border,
    Limits,
    declared_keys,
    declared_scores,
    declared_sums,
    declared_update,
)
from fedmri.clients.egress.gate import gate_of
from fedmri.clients.egress.ledger import Ledger
from fedmri.clients.training.protection.private import Guard, simulated_secret
from fedmri.clients.training.protection.secure import Membership
from fedmri.clients.training.site import Site
from fedmri.plan import from_json
from fedmri.wire import (
    ADD_UP,
    EVALUATE,
    SECURE_STEP,
    TRAIN,
    SecureStep,
    content_of,
    read_order,
    round_of,
)

SITE_FAILED = 100
"""Flower error code of an error that fedmri explains by its own code, in the reason."""

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer an order to train with an update."""
    return _answer(_update, message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer an order to evaluate with aggregate scores."""
    return _answer(_scores, message, context)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer an order for sums, or for a step of a secure one, with this site's part."""
    return _answer(_sums, message, context)


def _sums(context: Context, border: Border, content: RecordDict) -> RecordDict:
    plan = from_json(str(context.run_config["plan"]))
    site = site_of(context)
    order = read_order(content, ADD_UP, SECURE_STEP)
    if isinstance(order, SecureStep):
        answer = content_of(site.secure_step(order))
        return border.admit(answer, declared_keys(site.secure_forms(order)), order.round_index)
    sums = site.sums(order)
    allowed = declared_sums(site.sum_forms(order), are_counts_told=not plan.secagg.is_on)
    return border.admit(content_of(sums), allowed, order.round_index)


def _update(context: Context, border: Border, content: RecordDict) -> RecordDict:
    site, order = site_of(context), read_order(content, TRAIN)
    allowed = declared_update(order.weights, site.update_forms(order), site.plan, site.layout)
    return border.admit(content_of(site.train(order)), allowed, order.round_index)


def _scores(context: Context, border: Border, content: RecordDict) -> RecordDict:
    site, order = site_of(context), read_order(content, EVALUATE)
    allowed = declared_scores(site.plan)
    return border.admit(content_of(site.evaluate(order)), allowed, order.round_index)


def _answer(
    work: Callable[[Context, Border, RecordDict], RecordDict], message: Message, context: Context
) -> Message:
    """Return the site's reply, or the code of what went wrong there; both through its border."""
    border = border_of(context)
    try:
        return Message(work(context, border, message.content), reply_to=message)
    except Exception as error:  # noqa: BLE001  # outermost frame: one site never ends a run
        return refusal(error, message, border)


def refusal(error: Exception, message: Message, border: Border) -> Message:
    """Return the reply of a site that could not answer: the error's code, through its border."""
    reason = border.admit_error(error, round_of(message.content))
    return Message(Error(SITE_FAILED, reason), reply_to=message)


def border_of(context: Context) -> Border:
    """Return the border of a context.

    ``node_config`` names the ``site``, and in a hospital the ``ledger``, the ``plan-sha256`` and
    the ``run`` that go into it, patients at least behind an update (``n_min_update``) and behind
    metrics (``n_min``), and the digits of a metric (``score-digits``).
    """
    node = context.node_config
    limits = Limits(
        int(node.get("n_min_update", 0)),
        int(node.get("n_min", 0)),
        int(node.get("score-digits", Limits.digits)),
    )
    ledger = Ledger(Path(str(node["ledger"]))) if "ledger" in node else None
    plan, run = str(node.get("plan-sha256", "")), str(node.get("run", ""))
    return Border(str(node["site"]), limits, ledger, plan, run)


def site_of(context: Context) -> Site:
    """Return the site of a context.

    ``node_config`` names the ``site``, its ``prepared`` files (JSON list) and its ``folder`` for
    the run, and in a hospital what ``guard_of`` needs; ``run_config`` holds the ``plan`` (JSON).
    A simulation asks for ``embeddings``: in one place they tell whether the site can be told.
    """
    node, plan = context.node_config, str(context.run_config["plan"])
    where = str(node["site"]), plan, str(node["prepared"]), str(node["folder"])
    return _open(*where, guard_of(context), are_embeddings_kept="embeddings" in node)


def guard_of(context: Context) -> Guard:
    """Return what a site trains its patients privately with.

    In a hospital ``node_config`` names the files of its ``privacy-secret``, ``privacy-ledger`` and
    ``privacy-account``, of its enrolled ``key``, the ``book`` of what secure sums revealed, and
    its own caps ``max-epsilon``, ``max-site-epsilon`` and ``max-scorings``, with the file of
    ``scorings``. A simulated site has a
    secret and a key that are none, and ledger and book in its folder for the run. ``run_config``
    holds the ``roll`` of secure sums, where the plan has them. ``gate_of`` reads the site's limits
    on updates.
    """
    node = context.node_config
    secret = simulated_secret(str(node["site"]))
    if "privacy-secret" in node:
        secret = Path(str(node["privacy-secret"])).read_bytes()
    folder = Path(str(node["folder"]))
    ledger = Path(str(node.get("privacy-ledger", folder / "privacy.jsonl")))
    membership = Membership(
        str(context.run_config.get("roll", "")), str(node.get("key", "")), str(node.get("book", ""))
    )
    return Guard(
        secret,
        ledger,
        max_epsilon=float(node.get("max-epsilon", 0)),
        run=str(node.get("run", "")),
        membership=membership,
        gate=gate_of(node, folder / "leakage.jsonl", secret),
        max_scorings=int(node.get("max-scorings", 0)),
        max_site_epsilon=float(node.get("max-site-epsilon", 0)),
        n_least=int(node.get("n_min_update", 0)),
        account=Path(str(node["privacy-account"])) if "privacy-account" in node else None,
        scorings=Path(str(node["scorings"])) if "scorings" in node else None,
    )


@lru_cache(maxsize=256)
def _open(  # noqa: PLR0913  # what a site is known by
    name: str, plan: str, prepared: str, folder: str, guard: Guard, *, are_embeddings_kept: bool
) -> Site:
    files = [Path(path) for path in json.loads(prepared)]
    return Site(name, plan, files, Path(folder), guard, are_embeddings_kept=are_embeddings_kept)

"""The process that trains at a site: it takes one order after another and stays warm between.

Only installed code runs here. What the server ships is looked at and never executed.
"""

from __future__ import annotations

import argparse
import copy
import datetime as dt
import json
import logging
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import httpx
from flwr.app import Context, Message, RecordDict

from fedmri.agreement.consortium import installed_version
from fedmri.agreement.signed_plan import SignedPlan
from fedmri.clients.app import app, border_of, refusal
from fedmri.clients.consent.approval import refuse_unapproved
from fedmri.clients.consent.hours import refuse_other_hours
from fedmri.clients.consent.refusal import known_runs
from fedmri.clients.consent.withdrawn import Withdrawn
from fedmri.clients.process.flower import SuperNodeTasks, bound_orders, foreign_files
from fedmri.clients.process.home import ClientHome, short_name
from fedmri.clients.process.messages import tell_of_plan
from fedmri.clients.process.standing import ORDER as ORDER_NOTE
from fedmri.clients.process.standing import heed, note
from fedmri.clients.training.own_data import own_features, prepare_own
from fedmri.errors import PrivacyError
from fedmri.machine.logs import log_to
from fedmri.machine.memory import give_back
from fedmri.machine.pauses import Pauses
from fedmri.plan import Plan, to_json
from fedmri.wire import (
    bundle,
    code_said,
    is_secure_step,
    no_order,
    notice_of,
    refuse_undeclared_order,
    round_of,
    unbundle,
)

log = logging.getLogger("fedmri.client")

SHORTEST_S, LONGEST_S = 0.05, 0.5
"""Between two questions for an order, after one has come and when none does."""
PATIENCE_S = 60.0


class Order(Protocol):
    """An order as it came: the message, what was told beside it, and a bundle if one came."""

    message: Message
    context: Context
    bundle: bytes | None


def answer(folder: Path, task: Order) -> Message:
    """Return a site's answer to an order, or the code of why there is none.

    Args:
        folder: The site's folder; read anew for each order, for its owner may have changed it.
        task: The order.
    """
    home = ClientHome(folder)
    sent = task.context.run_config
    # a context of our own: what is changed in Flower's would come back with the next order
    context = copy.copy(task.context)
    context.node_config = {"site": home.consortium.site, "ledger": str(home.ledger)}
    try:
        if task.bundle is not None:
            refuse_code(task.bundle)
        refuse_undeclared(task.message)
        heed(home, str(sent["run"]), notice_of(task.message.content))
        task.message.content = unbundle(task.message.content)
        signed = SignedPlan.from_json(str(sent["signed-plan"]))
        context.node_config |= _own_settings(home, signed, str(sent["run"]))
        refuse_unapproved(home, signed, str(sent["run"]))
        refuse_beyond(task.message, signed.plan)
        if not is_secure_step(task.message.content):  # a sum that has begun is brought to its end
            refuse_other_hours(home.config.train_hours, dt.datetime.now())  # a local clock
        prepared = _prepared(folder, signed, Withdrawn.of(home).version)
        # a table lies where its owner put it; what is written belongs into the site's folder
        is_table = signed.plan.is_for_tables
        own = home.runs / signed.sha256 if is_table else prepared.parent
        state = own / short_name(str(sent["run"]))
        context.node_config |= {"prepared": json.dumps([str(prepared)]), "folder": str(state)}
        roll = signed.roll(str(sent["run"]))
        context.run_config = {"plan": to_json(_own_plan(home, signed)), "roll": roll.to_json()}
        reply = app(task.message, context)
        if reply.has_content():
            reply.content = bundle(reply.content)
        return reply
    except Exception as error:  # noqa: BLE001  # outermost frame: one order never ends a site
        return refusal(error, task.message, border_of(context))


def _own_settings(home: ClientHome, signed: SignedPlan, run: str) -> dict[str, Any]:
    """Return what the border is told: the site's limits, and what goes into its ledger."""
    policy = home.config.policy
    return {
        "n_min": policy.min_subjects_reported,
        "n_min_update": policy.min_subjects_train,
        "plan-sha256": signed.sha256,
        "run": run,
        "privacy-secret": str(home.own_secret()),
        "privacy-ledger": str(home.privacy_ledger),
        "privacy-account": str(home.privacy_account),
        "max-epsilon": policy.max_epsilon,
        "key": str(home.key),
        "book": str(home.runs / signed.sha256 / "revealed.jsonl"),
        "max-update-norm": policy.max_update_norm,
        "max-leakage": policy.max_leakage,
        "leakage-every": policy.leakage_every,
        "leakage-steps": policy.leakage_steps,
        "leakage-ledger": str(home.leakage_ledger),
        "max-scorings": policy.max_scorings,
        "scorings": str(home.scorings(signed.sha256, run)),
        "max-site-epsilon": policy.max_site_epsilon,
        "score-digits": policy.score_digits,
    }


def _own_plan(home: ClientHome, signed: SignedPlan) -> Plan:
    plan, device = signed.plan, home.config.device
    return replace(plan, train=replace(plan.train, device=device)) if device else plan


@lru_cache(maxsize=4)
def _prepared(folder: Path, signed: SignedPlan, withdrawn: str) -> Path:
    """Return the site's prepared data; a change counts after a restart, a withdrawal at once."""
    home = ClientHome(folder)
    own, gone = home.runs / signed.sha256, Withdrawn.of(home)
    if signed.plan.is_for_tables:
        return own_features(home.config, own / "table" / withdrawn[:16], gone)
    return prepare_own(home.config, signed.plan, home.consortium.site, home.cache, own, gone)


def refuse_code(bundle: bytes) -> None:
    """Refuse a bundle with anything in it but the names of the installed apps.

    Raises:
        PrivacyError: It holds further files (P20).
    """
    foreign = foreign_files(bundle)
    if foreign:
        found = ", ".join(foreign[:3])
        want = "a bundle that names the installed apps and holds no file besides"
        fix = f"ask the coordinator what it is for; this site runs fedmri {installed_version()}"
        raise PrivacyError("P20", "bundle of the server", found=found, want=want, fix=fix)


def refuse_undeclared(message: Message) -> None:
    """Refuse an order of another kind, or with more in it, than orders have.

    Raises:
        PrivacyError: Its kind, a record or a field is not declared (P21).
    """
    if not message.has_content():
        raise no_order("one without content")
    refuse_undeclared_order(message.metadata.message_type, message.content)


def refuse_beyond(message: Message, plan: Plan) -> None:
    """Refuse an order for a round that the plan, as it was approved, does not have.

    Raises:
        PrivacyError: The round is none of the plan's (P21).
    """
    index, n_rounds = round_of(message.content), plan.rounds.n_rounds
    if index is None or index > n_rounds:
        raise no_order(f"round {index!r} of {n_rounds}")


def noted_answer(home: ClientHome, task: Order) -> Message:
    """Return the answer to an order; beginning and end are noted for this site's people."""
    kind, run = task.message.metadata.message_type, str(task.context.run_config.get("run", ""))
    content = task.message.content if task.message.has_content() else RecordDict()
    about = {"kind": kind, "run": run, "round": round_of(content)}
    note(home, ORDER_NOTE, **about, code="")
    reply = answer(home.folder, task)
    code = code_said(str(reply.error.reason)) if reply.has_error() else "ok"
    note(home, ORDER_NOTE, **about, code=code)
    if code == "P11":
        tell_of_plan(home, known_runs(home).get(run, ""))
    return reply


def work(home: ClientHome, port: int, secret: bytes) -> None:
    """Answer orders until the SuperNode is gone."""
    tasks = SuperNodeTasks(port, secret)
    last_seen, pauses = time.monotonic(), Pauses(SHORTEST_S, LONGEST_S)
    while time.monotonic() - last_seen < PATIENCE_S:
        try:
            with tasks.next() as task:
                if task is not None:
                    reply = noted_answer(home, task)
                    task.answer(reply)
                    give_back()  # the next order may be hours away
            last_seen = time.monotonic()
        except httpx.HTTPError as error:
            log.warning("SuperNode: %s", type(error).__name__)
            task = None
        except Exception:  # outermost frame: an order that cannot even be read never ends a site
            log.exception("an order is none")
            task = None
        if task is None:
            time.sleep(pauses.next_s())
        else:
            pauses.restart()


def main() -> None:
    """Run the worker that ``fedmri client`` starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("secret", type=Path)
    given = parser.parse_args()
    home = ClientHome(given.folder)
    log_to(home.logs / "client.log")
    logging.captureWarnings(capture=True)
    for library in ("flwr", "httpx"):  # every look for an order would be a line
        logging.getLogger(library).setLevel(logging.WARNING)
    bound_orders()
    work(home, given.port, given.secret.read_bytes())


if __name__ == "__main__":
    main()

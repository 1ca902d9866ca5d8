"""The process that trains at a site: it takes one order after another and stays warm between.

Only installed code runs here. What the server ships is looked at and never executed.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import httpx
from flwr.app import Context, Message

from fedmri.clients.app import SITE_FAILED, app, public_reason
from fedmri.clients.approval import refuse_unapproved
from fedmri.clients.flower import Task, Tasks, error_reply, foreign_files
from fedmri.clients.home import ClientHome
from fedmri.clients.own_data import prepare_own
from fedmri.consortium import installed_version
from fedmri.errors import PrivacyError
from fedmri.plan import to_json
from fedmri.signed_plan import SignedPlan

log = logging.getLogger("fedmri.client")

POLL_S = 0.25
PATIENCE_S = 60.0


class Worker:
    """Answers the orders that reach a site.

    Args:
        home: The site's folder.
    """

    def __init__(self, home: ClientHome) -> None:
        self._home = home

    def answer(self, task: Task) -> Message:
        """Return the site's answer to an order, or the code of why there is none."""
        try:
            context = self._context(task)
        except Exception as error:  # noqa: BLE001  # outermost frame: one order never ends a site
            reason = public_reason(error, self._home.consortium.site)
            return error_reply(task.message, SITE_FAILED, reason)
        return app(task.message, context)

    def _context(self, task: Task) -> Context:
        """Return what the app is told: the site's own settings, and an approved plan."""
        refuse_code(task.bundle)
        signed = SignedPlan.from_json(str(task.context.run_config["signed-plan"]))
        run = str(task.context.run_config["run"])
        prepared = self._ready(signed)
        site = self._home.consortium.site
        policy = self._home.config.policy
        folder = self._home.runs / signed.sha256 / run
        node = {
            "site": site,
            "prepared": json.dumps([str(prepared)]),
            "folder": str(folder),
            "ledger": str(self._home.ledger),
            "n_min": policy.min_subjects_reported,
            "plan-sha256": signed.sha256,
            "run": run,
        }
        plan = signed.plan
        if self._home.config.device:
            plan = replace(plan, train=replace(plan.train, device=self._home.config.device))
        return replace_context(task.context, node, {"plan": to_json(plan)})

    def _ready(self, signed: SignedPlan) -> Path:
        """Return the prepared data of a plan that this site takes part in."""
        ClientHome(self._home.folder)  # the policy may have changed meanwhile
        signed.verify(self._home.consortium.coordinator)
        refuse_unapproved(self._home, signed)
        return _prepared(self._home, signed)


@lru_cache(maxsize=4)
def _prepared(home: ClientHome, signed: SignedPlan) -> Path:
    config = home.config
    folder = home.runs / signed.sha256 / "data"
    return prepare_own(config, signed.plan, home.consortium.site, home.cache, folder)


def replace_context(context: Context, node: dict[str, str | int], run: dict[str, str]) -> Context:
    """Return the context with the site's own settings in place of what the server sent."""
    context.node_config = dict(node)
    context.run_config = dict(run)
    return context


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


def work(home: ClientHome, port: int, secret: bytes) -> None:
    """Answer orders until the SuperNode is gone."""
    tasks, worker = Tasks(port, secret), Worker(home)
    last_seen = time.monotonic()
    while time.monotonic() - last_seen < PATIENCE_S:
        try:
            with tasks.next() as task:
                if task is not None:
                    task.answer(worker.answer(task))
            last_seen = time.monotonic()
        except httpx.HTTPError as error:
            log.warning("SuperNode: %s", type(error).__name__)
            task = None
        if task is None:
            time.sleep(POLL_S)


def main() -> None:
    """Run the worker that ``fedmri client`` starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("secret", type=Path)
    given = parser.parse_args()
    home = ClientHome(given.folder)
    form = "%(asctime)s %(name)s %(levelname)s %(message)s"
    logging.basicConfig(filename=home.logs / "client.log", format=form, level=logging.INFO)
    logging.captureWarnings(capture=True)
    work(home, given.port, given.secret.read_bytes())


if __name__ == "__main__":
    main()

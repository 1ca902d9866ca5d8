"""Runs that a site's people said no to, with their reason; it holds until they approve."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from fedmri.clients.egress.ledger import entries
from fedmri.clients.process.home import ClientHome
from fedmri.errors import PrivacyError, UsageError
from fedmri.machine.clock import utc
from fedmri.machine.files import append_line, whole_lines

AGAIN = "state/again"
"""File by which a command has the running client come online anew: its server then asks again."""


@dataclass(frozen=True)
class Refusal:
    """What was said to one run.

    Attributes:
        plan: Content hash of its plan.
        run: Its name.
        reason: Why, in the words of who said no.
        time: When, UTC.
        who: User of the machine.
        is_taken_back: Whether it no longer holds.
    """

    plan: str
    run: str
    reason: str
    time: str
    who: str
    is_taken_back: bool = False


class RunRefusedError(PrivacyError):
    """A run that the site's people said no to.

    Attributes:
        reason: What the coordinator may read of why; empty where the site does not tell.
    """

    def __init__(self, refusal: Refusal, *, is_reason_told: bool) -> None:
        found, want = f"a refusal of {refusal.time} by {refusal.who}", "none"
        fix = f"call `fedmri client approve {refusal.plan[:12]}` to take it back"
        super().__init__("P18", f"run {refusal.run}", found=found, want=want, fix=fix)
        self.reason = refusal.reason if is_reason_told else ""


def refusals(home: ClientHome) -> Mapping[tuple[str, str], Refusal]:
    """Return the refusals that hold, by plan and run."""
    found: dict[tuple[str, str], Refusal] = {}
    for line in whole_lines(home.refusals):
        with suppress(TypeError):  # of another version: the refusal of nobody
            one = Refusal(**line)
            found.pop((one.plan, one.run), None)
            if not one.is_taken_back:
                found[one.plan, one.run] = one
    return found


def refuse_refused(home: ClientHome, plan: str, run: str) -> None:
    """Refuse an order of a run that people here said no to (P18)."""
    refusal = refusals(home).get((plan, run))
    if refusal is not None:
        raise RunRefusedError(refusal, is_reason_told=home.config.policy.is_reason_told)


def refuse_run(home: ClientHome, run: str, reason: str) -> Refusal:
    """Write down that the site takes no part in a run; when this returns, it is on the disk.

    Raises:
        UsageError: No order of such a run has come (U33).
    """
    known = known_runs(home)
    if run not in known:
        there = ", ".join(sorted(known)) or "none"
        what, want = f"run {run!r}", f"one that this site was asked for: {there}"
        fix = "see `fedmri client watch --once`; a run appears once its first order has come"
        raise UsageError("U33", what, found="no order of it", want=want, fix=fix)
    refusal = Refusal(known[run], run, reason, utc(), getpass.getuser())
    append_line(home.refusals, asdict(refusal))
    return refusal


def take_back(home: ClientHome, plan: str) -> tuple[str, ...]:
    """Take back every refusal of a plan's runs; return these runs."""
    held = [one for (of, _), one in refusals(home).items() if of == plan]
    for one in held:
        told = Refusal(one.plan, one.run, "", utc(), getpass.getuser(), is_taken_back=True)
        append_line(home.refusals, asdict(told))
    if held:
        again = home.folder / AGAIN
        again.parent.mkdir(mode=0o700, exist_ok=True)
        again.touch()
    return tuple(one.run for one in held)


def known_runs(home: ClientHome) -> dict[str, str]:
    """Return the plan of each run that was answered, if only by a code, by the run's name."""
    return {line["run"]: line["plan"] for line in entries(home.ledger) if line.get("plan")}

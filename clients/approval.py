"""Which plans a site runs: those that keep to its limits and that somebody there has approved."""

from __future__ import annotations

import datetime as dt
import fcntl
import getpass
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fedmri.clients.home import ClientHome
from fedmri.clients.policy import SitePolicy, violations
from fedmri.errors import NetworkError, PrivacyError, UsageError
from fedmri.files import PRIVATE_FILE, write_whole
from fedmri.plan import Plan
from fedmri.signed_plan import SignedPlan

N_SHOWN = 12
"""Digits of a hash that a person is shown; enough to tell plans apart."""


@dataclass(frozen=True)
class Approval:
    """Somebody's consent to one plan, to the byte.

    Attributes:
        plan: Content hash of the plan.
        time: When, UTC.
        who: User of the machine.
        how: ``command``, ``policy.approved`` or ``policy.is_approval_automatic``.
    """

    plan: str
    time: str
    who: str
    how: str


def keep_seen(home: ClientHome, signed: SignedPlan) -> None:
    """Keep a plan that reached the site, so that it can be looked at and approved."""
    path = home.plans / f"{signed.sha256}.json"
    if not path.exists():
        home.plans.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, signed.to_json())


def seen_plans(home: ClientHome) -> list[SignedPlan]:
    """Return the plans that reached the site and are whole, the oldest first."""
    paths = sorted(home.plans.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path))
    plans = [SignedPlan.from_json(path.read_text(encoding="utf-8")) for path in paths]
    return [plan for path, plan in zip(paths, plans, strict=True) if plan.sha256 == path.stem]


def seen_plan(home: ClientHome, prefix: str) -> SignedPlan:
    """Return the one plan whose content hash begins with a prefix.

    Raises:
        UsageError: None does, or several do (U31).
    """
    found = [plan for plan in seen_plans(home) if prefix and plan.sha256.startswith(prefix)]
    if len(found) != 1:
        there = ", ".join(plan.sha256[:N_SHOWN] for plan in seen_plans(home)) or "no plan"
        what, want = f"plan {prefix!r}", f"the beginning of one of: {there}"
        fix = "see `fedmri client plans`; a plan appears there once the server has sent it"
        raise UsageError("U31", what, found=f"{len(found)} plans", want=want, fix=fix)
    return found[0]


def approvals(home: ClientHome) -> dict[str, Approval]:
    """Return the approvals of a site by content hash of the plan."""
    return {approval.plan: approval for approval in _read(home.approvals)}


def approve(home: ClientHome, signed: SignedPlan, how: str) -> Approval:
    """Write down the consent to a plan; one that is there already stays as it is."""
    there = approvals(home).get(signed.sha256)
    if there is not None:
        return there
    time = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    approval = Approval(signed.sha256, time, getpass.getuser(), how)
    number = os.open(home.approvals, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
    with os.fdopen(number, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # after a power cut the last line may be without its end: a new line starts in any case
        file.write(f"\n{json.dumps(asdict(approval))}\n")
        file.flush()
        os.fsync(file.fileno())
    return approval


def refuse_unapproved(home: ClientHome, signed: SignedPlan) -> None:
    """Refuse a plan that the site's limits or its people do not let run.

    The plan is kept, so that it can be approved later. A policy that approves is written down too.

    Raises:
        NetworkError: The coordinator did not sign it (N02), or it cannot be read (N01, N03).
        PrivacyError: It goes beyond the limits (P10), or nobody approved it (P11).
    """
    signed.verify(home.consortium.coordinator)
    plan = signed.plan
    keep_seen(home, signed)
    policy = home.config.policy
    refuse_violations(policy, plan)
    if signed.sha256 in approvals(home):
        return
    if signed.sha256 in policy.approved:
        approve(home, signed, "policy.approved")
    elif policy.is_approval_automatic:
        approve(home, signed, "policy.is_approval_automatic")
    else:
        short = signed.sha256[:N_SHOWN]
        what, fix = f"plan {short}", f"look at it and approve it: `fedmri client approve {short}`"
        raise PrivacyError("P11", what, found="no approval", want="one of this site", fix=fix)


def refuse_violations(policy: SitePolicy, plan: Plan, n_subjects: int | None = None) -> None:
    """Raise the PrivacyError of a plan that goes beyond the limits of a site (P10)."""
    found = violations(policy, plan, n_subjects)
    if found:
        fix = "ask the coordinator for another plan, or change policy in site.yaml"
        what, want = f"plan {plain(plan.name)}", "one within the limits of this site"
        raise PrivacyError("P10", what, found=plain("; ".join(found)), want=want, fix=fix)


def status_of(home: ClientHome, signed: SignedPlan) -> str:
    """Return in a few words whether the site would run a plan that it has seen."""
    try:
        signed.verify(home.consortium.coordinator)
        found = violations(home.config.policy, signed.plan)
    except NetworkError as error:
        return f"refused: {error.public}"
    if found:
        return plain(f"refused: {'; '.join(found)}")
    there = approvals(home).get(signed.sha256)
    if there is not None:
        return f"approved {there.time} by {there.who} ({there.how})"
    policy = home.config.policy
    is_allowed = policy.is_approval_automatic or signed.sha256 in policy.approved
    return "approved by site.yaml" if is_allowed else "waits for approval"


def _read(path: Path) -> Iterator[Approval]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield Approval(**json.loads(line))
        except (ValueError, TypeError):
            continue  # blank, or torn: the consent of nobody


def plain(text: str) -> str:
    """Return a text that cannot move the cursor: a plan's words must not redraw what is shown."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)

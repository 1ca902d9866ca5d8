"""Which plans a site runs: those that keep to its limits and that somebody there has approved."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fedmri.agreement.signed_plan import SignedPlan
from fedmri.clients.consent.policy import SitePolicy, violations
from fedmri.clients.consent.refusal import refusals, refuse_refused, take_back
from fedmri.clients.process.home import ClientHome
from fedmri.errors import NetworkError, PrivacyError, UsageError
from fedmri.machine.clock import utc
from fedmri.machine.files import append_line, whole_lines, write_whole
from fedmri.plan import Plan

N_SHOWN = 12
"""Digits of a hash that a person is shown; enough to tell plans apart."""
N_KEPT = 100
"""Plans that are kept although nobody has said anything to them."""
WITHDRAWN = "withdrawn"
DAY_S = 86_400.0


@dataclass(frozen=True)
class Approval:
    """Somebody's consent to one plan, to the byte.

    Attributes:
        plan: Content hash of the plan.
        time: When, UTC.
        who: User of the machine.
        how: ``command``, ``policy.approved`` or ``policy.is_approval_automatic``.
        run: The run that began under it, on a line of its own; None on the line of the consent.
    """

    plan: str
    time: str
    who: str
    how: str
    run: str | None = None


def keep_seen(home: ClientHome, signed: SignedPlan) -> None:
    """Keep a plan that reached the site, so that it can be looked at and approved.

    Of plans that nobody has said anything to, the newest ``N_KEPT`` stay: a server that signs plan
    after plan does not fill the disk.
    """
    path = home.plans / f"{signed.sha256}.json"
    if path.exists():
        return
    home.plans.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = {line.plan for line in _read(home.approvals)}
    waiting = [path for path in _kept(home) if path.stem not in said]
    for old in waiting[: max(0, len(waiting) + 1 - N_KEPT)]:
        old.unlink()
    write_whole(path, signed.to_json())


def _kept(home: ClientHome) -> list[Path]:
    """Return the files of plans, the oldest first."""
    return sorted(home.plans.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path))


def seen_plans(home: ClientHome) -> list[SignedPlan]:
    """Return the plans that reached the site and are whole, the oldest first."""
    paths = _kept(home)
    plans = [SignedPlan.from_json(path.read_bytes()) for path in paths]
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


@dataclass(frozen=True)
class Consent:
    """What a site has said to one plan.

    Attributes:
        given: Approvals, the oldest first; each is for one run.
        begun: Runs that began under them.
        ended: Why there is none, where there was one.
        is_withdrawn: Whether a person took it back.
    """

    given: tuple[Approval, ...] = ()
    begun: frozenset[str] = frozenset()
    ended: str = ""
    is_withdrawn: bool = False

    @property
    def is_free(self) -> bool:
        """Whether a run may begin that has not begun yet."""
        return len(self.begun) < len(self.given)


def consent(home: ClientHome, sha256: str) -> Consent:
    """Return what the site has said to a plan: since it was withdrawn, and as long as it lasts."""
    days, found = home.config.policy.approval_days, Consent()
    oldest = utc(time.time() - days * DAY_S) if days else ""
    for line in _read(home.approvals):
        if line.plan != sha256:
            continue
        if line.how == WITHDRAWN:
            found = Consent(ended=f"withdrawn {line.time} by {line.who}", is_withdrawn=True)
        elif line.run is not None:
            found = replace(found, begun=found.begun | {line.run})
        elif line.time < oldest:
            found = replace(found, ended=f"expired: it was given {line.time}")
        else:
            found = replace(found, given=(*found.given, line), ended="", is_withdrawn=False)
    return found


def withdraw(home: ClientHome, signed: SignedPlan) -> None:
    """Write down that the site no longer consents to a plan: its next order is refused.

    Raises:
        UsageError: It does not consent now (U31).
    """
    there = consent(home, signed.sha256)
    if not there.given:
        what, found = f"plan {signed.sha256[:N_SHOWN]}", there.ended or "no approval of it"
        want, fix = "a plan that this site has approved", "see `fedmri client plans`"
        raise UsageError("U31", what, found=found, want=want, fix=fix)
    taken = Approval(signed.sha256, utc(), getpass.getuser(), WITHDRAWN)
    append_line(home.approvals, asdict(taken))


def approve(home: ClientHome, signed: SignedPlan, how: str) -> Approval:
    """Write down the consent to one run of a plan; one that no run has used stays as it is."""
    there = consent(home, signed.sha256)
    if there.is_free:
        return there.given[-1]
    approval = Approval(signed.sha256, utc(), getpass.getuser(), how)
    append_line(home.approvals, asdict(approval))
    return approval


def approve_as_person(home: ClientHome, signed: SignedPlan) -> Approval:
    """Write down what somebody here decided; a refusal of the plan's runs is taken back by it."""
    taken, there = take_back(home, signed.sha256), consent(home, signed.sha256)
    if taken and there.given and there.begun >= set(taken):
        return there.given[-1]  # the run goes on under the approval that it began under
    return approve(home, signed, "command")


def refuse_unapproved(home: ClientHome, signed: SignedPlan, run: str) -> None:
    """Refuse a plan that the site's limits or its people do not let run.

    The plan is kept, so that it can be approved later. A policy that approves is written down too.
    An approval is for one run, the first that asks: another one would get all answers again.

    Raises:
        NetworkError: The coordinator did not sign it (N02), or it cannot be read (N01, N03).
        PrivacyError: People here refused the run (P18), it goes beyond the limits (P10), nobody
            approved it (P11), or it was approved for another run (P15).
    """
    signed.verify(home.consortium.coordinator)
    plan = signed.plan
    keep_seen(home, signed)
    refuse_refused(home, signed.sha256, run)
    policy = home.config.policy
    refuse_violations(policy, plan)
    there = consent(home, signed.sha256)
    if there.given and run in there.begun:
        return
    if not there.is_free:
        changed = changed_keys(home, signed)
        how = _how(policy, signed, there, changed)
        if not how:
            raise _used(signed, there) if there.given else _unapproved(signed, there, changed)
        approve(home, signed, how)
    by = consent(home, signed.sha256).given[-1]
    append_line(home.approvals, asdict(replace(by, time=utc(), run=run)))


def _how(policy: SitePolicy, signed: SignedPlan, there: Consent, changed: Sequence[str]) -> str:
    """Return what of the site's settings approves a run; empty where a person has to."""
    # what a person took back, no setting gives again; and keys are compared by telephone
    if there.is_withdrawn or changed:
        return ""
    if policy.is_approval_automatic:
        return "policy.is_approval_automatic"
    is_listed = signed.sha256 in policy.approved and not there.given
    return "policy.approved" if is_listed else ""


def _unapproved(signed: SignedPlan, there: Consent, changed: Sequence[str]) -> PrivacyError:
    short = signed.sha256[:N_SHOWN]
    what, fix = f"plan {short}", f"look at it and approve it: `fedmri client approve {short}`"
    found = f"an approval that is {there.ended}" if there.ended else "no approval"
    if changed:
        found += f", and other keys than before of {plain(', '.join(changed))}"
    return PrivacyError("P11", what, found=found, want="one of this site", fix=fix)


def _used(signed: SignedPlan, there: Consent) -> PrivacyError:
    short, runs = signed.sha256[:N_SHOWN], plain(", ".join(sorted(there.begun)))
    fix = f"ask the coordinator why, then approve it once more: `fedmri client approve {short}`"
    found, want = f"another run; it was approved for {runs}", "one run for each approval"
    return PrivacyError("P15", f"plan {short}", found=found, want=want, fix=fix)


def changed_keys(home: ClientHome, signed: SignedPlan) -> tuple[str, ...]:
    """Return the sites whose key is not the one that this site approved a plan with before.

    Masks hide a site's values from all who do not hold the keys of the others. A coordinator that
    gives keys of its own out as theirs would see them; so a key that changes is for a person.
    """
    approved = {line.plan for line in _read(home.approvals)} - {signed.sha256}
    known: dict[str, str] = {}
    for plan in seen_plans(home):
        known |= plan.sites if plan.sha256 in approved else {}
    now = signed.sites
    return tuple(site for site in sorted(known) if now.get(site, known[site]) != known[site])


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
    refused = [one for (plan, _), one in refusals(home).items() if plan == signed.sha256]
    if refused:
        said = "; ".join(f"run {one.run} by {one.who}: {one.reason}" for one in refused)
        return plain(f"refused by people here: {said}")
    there = consent(home, signed.sha256)
    if there.given:
        last = there.given[-1]
        used = "" if there.is_free else plain(f", used by run {', '.join(sorted(there.begun))}")
        return f"approved {last.time} by {last.who} ({last.how}){used}"
    if _how(home.config.policy, signed, there, changed_keys(home, signed)):
        return "approved by site.yaml"
    return f"{plain(there.ended)}; waits for approval" if there.ended else "waits for approval"


def _read(path: Path) -> Iterator[Approval]:
    for line in whole_lines(path):
        with suppress(TypeError):  # of another version: the consent of nobody
            yield Approval(**line)


def plain(text: str) -> str:
    """Return a text that cannot move the cursor: a plan's words must not redraw what is shown."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)

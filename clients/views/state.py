"""Where a site stands, read from its own folder: what its people see, in a terminal or a page."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedmri.agreement.plan_changes import Change, plan_changes
from fedmri.agreement.signed_plan import SignedPlan
from fedmri.clients.consent.approval import consent, plain, seen_plans, status_of
from fedmri.clients.consent.plan_text import plan_facts
from fedmri.clients.consent.policy import SitePolicy
from fedmri.clients.egress.ledger import entries
from fedmri.clients.egress.privacy_ledger import WHOSE, PrivacyLedger, Unit
from fedmri.clients.mailbox.looks import Looks, client_text, looks
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.messages import Told, messages
from fedmri.clients.process.standing import (
    ORDER,
    SAID,
    TOLD,
    Standing,
    client_pid,
    noted,
    of_update,
    outcome,
)
from fedmri.clients.training.own_data import MANIFEST, PREPARED, n_prepared
from fedmri.clients.views.costs import PlanCost, delta_of, plan_cost
from fedmri.errors import CODES, FedmriError
from fedmri.machine.clock import utc
from fedmri.machine.files import whole_lines

N_PLANS = 5
"""Plans whose costs are computed: the newest that wait."""
USUAL_DELTA = 1e-5
"""Delta of what was spent, where no data of the site were prepared yet."""
_LOSS = re.compile(r"\bloss=(\S+)")


@dataclass(frozen=True)
class Work:
    """The last order: its run, plan, round, kind, since when, and what it was answered with.

    Attributes:
        code: ``ok``, a code, or empty before its answer.
        outcome: What came of it, in words.
        hours_left: Until the last round at the pace of this site so far; None is not known.
    """

    run: str
    plan: str
    round: int | None
    n_rounds: int
    kind: str
    since: str
    code: str
    outcome: str
    why: str
    hours_left: float | None


@dataclass(frozen=True)
class Patients:
    """Patients of the plan that was worked on last: how many take which part, and who does not."""

    used: Mapping[str, int]
    left_out: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Leaving:
    """What left the site, today and in all: messages and bytes by kind."""

    today: Mapping[str, tuple[int, int]]
    in_all: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Epsilon:
    """What was spent of whose privacy; a cap of 0 is none."""

    whose: str
    spent: float
    delta: float
    cap: float

    @property
    def left(self) -> float | None:
        """What may still be spent; None without a cap."""
        return max(0.0, self.cap - self.spent) if self.cap else None


@dataclass(frozen=True)
class RoundScore:
    """Score of the federated model here after a round, beside the loss of the site's own training.

    Attributes:
        metric: Name of the primary metric.
        value: Of it, on ``split``; None where it was held back or not asked for.
        own_loss: Training loss of this site's own update of the round, as it left; None where none.
    """

    round: int
    split: str
    metric: str
    value: float | None
    own_loss: float | None


@dataclass(frozen=True)
class PlanView:
    """A plan that the server sent.

    Attributes:
        status: This site's answer, in words.
        runs: Runs that asked under it.
        facts: What is to be read before consenting; empty where it is decided.
        cost: What it would cost; None where it is decided.
        compared_with: Name and hash of the plan that was approved before; empty for none.
        changes: What differs from that.
    """

    sha256: str
    name: str
    seen: str
    is_waiting: bool
    status: str
    runs: tuple[str, ...]
    facts: Mapping[str, str]
    cost: PlanCost | None
    compared_with: str
    changes: Sequence[Change]


@dataclass(frozen=True)
class SiteState:
    """All that a site's people see.

    Attributes:
        looks: How it stands with its mailbox; None where it dials in.
        client: Whether its client runs, and whether it should, in sentences.
        broken: What could not be read.
    """

    site: str
    address: str
    time: str
    is_running: bool
    looks: Looks | None
    client: str
    standing: str
    work: Work | None
    patients: Patients | None
    leaving: Leaving
    epsilons: tuple[Epsilon, ...]
    scores: tuple[RoundScore, ...]
    left_out: str
    messages: tuple[Told, ...]
    plans: tuple[PlanView, ...]
    broken: tuple[str, ...]


def read_state(home: ClientHome, standing: Standing) -> SiteState:
    """Return where a site stands; one broken file does not hide the rest.

    Args:
        home: The site's folder, opened for this look: settings are read anew.
        standing: What the server said of the site.
    """
    lines, broken = list(entries(home.ledger)), list[str]()
    is_running, mail = client_pid(home) is not None, looks(home)
    plans = {signed.sha256: signed for signed in seen_plans(home)}
    work = _work(home, lines, plans, is_running=is_running)
    signed = plans.get(work.plan) if work else None
    signed = signed if signed and _is_of_this_version(signed) else None
    patients = _patients(home, signed.sha256) if signed else None
    n_train = patients.used.get("train", 0) if patients else 0
    epsilons: tuple[Epsilon, ...] = ()
    try:
        epsilons = tuple(_epsilons(home, signed, n_train))
    except FedmriError as error:
        broken.append(str(error))
    return SiteState(
        site=home.consortium.site,
        address=home.consortium.address,
        time=utc(),
        is_running=is_running,
        looks=mail,
        client=client_text(mail, is_running=is_running),
        standing=SAID[standing],
        work=work,
        patients=patients,
        leaving=_leaving(lines),
        epsilons=epsilons,
        scores=tuple(_scores(home, signed, work, lines)) if signed and work else (),
        left_out=plain(of_update(noted(home, TOLD))),
        messages=tuple(reversed(messages(home))),
        plans=tuple(_plans(home, plans.values(), lines, n_train)),
        broken=tuple(broken),
    )


def as_json(state: SiteState) -> dict[str, Any]:
    """Return a state as JSON has it, with what is derived."""
    found = asdict(state)
    for one, epsilon in zip(found["epsilons"], state.epsilons, strict=True):
        one["left"] = epsilon.left
    for plan, view in zip(found["plans"], state.plans, strict=True):
        if view.cost is not None:
            plan["cost"]["bytes_in_all"] = view.cost.bytes_in_all
    return found


def _work(
    home: ClientHome,
    lines: Sequence[Mapping[str, Any]],
    plans: Mapping[str, SignedPlan],
    *,
    is_running: bool,
) -> Work | None:
    order = noted(home, ORDER)
    if not order:
        return None
    run, code = plain(str(order.get("run"))), str(order.get("code", ""))
    plan = next((line["plan"] for line in reversed(lines) if line.get("run") == run), "")
    signed = plans.get(plan)
    n_rounds = signed.plan.rounds.n_rounds if signed and _is_of_this_version(signed) else 0
    at = order.get("round")
    left = _hours_left(run, at, n_rounds, lines) if isinstance(at, int) else None
    return Work(
        *(run, plan, at if isinstance(at, int) else None, n_rounds),
        kind=str(order.get("kind")),
        since=str(order.get("time")),
        code=code,
        outcome=outcome(code, is_running=is_running),
        why=CODES.get(code, ""),
        hours_left=left,
    )


def _hours_left(
    run: str, at: int, n_rounds: int, lines: Sequence[Mapping[str, Any]]
) -> float | None:
    """Return the hours until the last round, at the pace of this site's updates so far."""
    of_run = [line for line in lines if line.get("run") == run and line["kind"] == "update"]
    if len(of_run) < 2 or of_run[-1]["round"] == of_run[0]["round"]:  # a pace
        return None
    first, last = of_run[0], of_run[-1]
    seconds = _time(last["time"]) - _time(first["time"])
    n_done = int(last["round"]) - int(first["round"])
    return (n_rounds - at) * seconds / n_done / 3600


def _time(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def _patients(home: ClientHome, plan: str) -> Patients | None:
    manifest = home.runs / plan / MANIFEST
    if not manifest.exists():
        return None
    rows = [line.split("\t") for line in manifest.read_text(encoding="utf-8").splitlines()[1:]]
    left_out = [(row[1], row[3], row[5]) for row in rows if row[4] == "yes"]
    prepared = sorted(manifest.parent.glob(f"*/{PREPARED}"), key=lambda path: path.stat().st_mtime)
    used = _counted(prepared[-1], prepared[-1].stat().st_mtime_ns) if prepared else {}
    return Patients(used, left_out)


@lru_cache(maxsize=8)
def _counted(path: Path, changed: int) -> Mapping[str, int]:  # read once a version
    return {str(split): n for split, n in n_prepared(path).items()}


def _leaving(lines: Sequence[Mapping[str, Any]]) -> Leaving:
    today = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    sent = [line for line in lines if "plan" in line]
    return Leaving(
        _by_kind(line for line in sent if line["time"].startswith(today)), _by_kind(sent)
    )


def _by_kind(lines: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    n, n_bytes = Counter[str](), Counter[str]()
    for line in lines:
        n[line["kind"]] += 1
        n_bytes[line["kind"]] += line["n_bytes"]
    return {kind: (n[kind], n_bytes[kind]) for kind in sorted(n)}


def _epsilons(home: ClientHome, signed: SignedPlan | None, n_train: int) -> Iterator[Epsilon]:
    policy = home.config.policy
    ledger = PrivacyLedger(home.privacy_ledger, home.privacy_account)
    caps: dict[Unit, float] = {"dp": policy.max_epsilon, "dp-site": policy.max_site_epsilon}
    deltas: dict[Unit, float] = {"dp": USUAL_DELTA, "dp-site": USUAL_DELTA}
    if signed is not None:
        deltas["dp-site"] = signed.plan.privacy.site.delta
        if n_train:
            deltas["dp"] = delta_of(signed.plan, n_train, policy.max_epsilon)
    for kind, cap in caps.items():
        if cap or ledger.history(kind=kind):
            found = ledger.spent(deltas[kind], kind=kind).epsilon
            yield Epsilon(WHOSE[kind], found, deltas[kind], cap)


def _scores(
    home: ClientHome, signed: SignedPlan, work: Work, lines: Sequence[Mapping[str, Any]]
) -> Iterator[RoundScore]:
    metric = signed.plan.target.primary
    losses = dict(_losses(work.run, lines))
    asked = list(whole_lines(home.scorings(signed.sha256, work.run)))
    found = []
    for line in (one for one in asked if "scores" in one):
        value = line["scores"]["metrics"].get(metric)
        at = line["round_index"]
        found.append(RoundScore(at, line["split"], metric, value, losses.pop(at, None)))
    found += [RoundScore(at, "", metric, None, loss) for at, loss in losses.items()]
    yield from sorted(found, key=lambda one: one.round)


def _losses(run: str, lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, float]]:
    for line in lines:
        if line.get("run") == run and line["kind"] == "update":
            found = _LOSS.search(" ".join(line["what"]))
            if found:
                yield line["round"], float(found[1])


def _plans(
    home: ClientHome,
    seen: Collection[SignedPlan],
    lines: Sequence[Mapping[str, Any]],
    n_train: int,
) -> Iterator[PlanView]:
    """Yield the plans, the newest first; the newest that wait with all that is to be known."""
    every = [one for one in reversed(tuple(seen)) if _is_of_this_version(one)]
    statuses = {one.sha256: status_of(home, one) for one in every}
    waits = [one for one in every if "waits" in statuses[one.sha256]]
    policy = home.config.policy
    for signed in every:
        is_waiting = signed in waits
        is_told = signed in waits[:N_PLANS]
        before = _approved_before(home, signed, every) if is_told else None
        runs = {plain(str(line["run"])) for line in lines if line.get("plan") == signed.sha256}
        came = (home.plans / f"{signed.sha256}.json").stat().st_mtime
        yield PlanView(
            sha256=signed.sha256,
            name=plain(signed.plan.name),
            seen=utc(came),
            is_waiting=is_waiting,
            status=statuses[signed.sha256],
            runs=tuple(sorted(runs)),
            facts=_told_facts(signed, policy) if is_told else {},
            cost=plan_cost(signed, n_train, policy.max_epsilon) if is_told else None,
            compared_with=f"{plain(before.plan.name)} ({before.sha256[:12]})" if before else "",
            changes=plan_changes(before.plan, signed.plan) if before else (),
        )


def _is_of_this_version(signed: SignedPlan) -> bool:
    try:
        return bool(signed.plan.name)
    except FedmriError:
        return False


@lru_cache(maxsize=32)
def _told_facts(signed: SignedPlan, policy: SitePolicy) -> Mapping[str, str]:
    return {name: plain(text) for name, text in plan_facts(signed, policy).items()}


def _approved_before(
    home: ClientHome, signed: SignedPlan, every: Sequence[SignedPlan]
) -> SignedPlan | None:
    """Return the plan that was approved last, other than this one."""
    given = [(consent(home, one.sha256).given, one) for one in every if one != signed]
    approved = [(there[-1].time, one.sha256, one) for there, one in given if there]
    return max(approved)[2] if approved else None

"""A hospital's view in a terminal: the same facts as its page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fedmri.clients.views.state import PlanView, SiteState

PERIOD_S = 2.0
N_SHOWN = 12
"""Patients that are left out, scores and messages that a screen has room for."""


def watch_terminal(read: Callable[[], SiteState], console: Console) -> None:
    """Show where a site stands until Ctrl-C."""
    with Live(as_text(read()), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(PERIOD_S)
            live.update(as_text(read()), refresh=True)


def as_text(state: SiteState) -> Group:
    """Return where a site stands, one fact a line."""
    return Group(*(Text(line) for line in lines_of(state)))


def lines_of(state: SiteState) -> Iterator[str]:
    """Yield where a site stands, one fact a line."""
    yield f"Site {state.site} of the consortium at {state.address}, {state.time}."
    yield state.client
    yield state.standing
    yield from state.broken
    yield from _work(state)
    yield from _patients(state)
    yield from _leaving(state)
    yield from _scores(state)
    for plan in state.plans:
        yield from _plan(plan)
    if state.messages:
        yield "Messages, the newest first:"
    for told in state.messages[:N_SHOWN]:
        yield f"  {told.time}  {told.text}"


def _work(state: SiteState) -> Iterator[str]:
    work = state.work
    if work is None:
        yield "No order has come yet."
        return
    at = f"round {work.round} of {work.n_rounds}" if work.round is not None else "no round"
    why = f" ({work.why})" if work.why else ""
    yield f"Run {work.run}: {at}, {work.kind}, {work.outcome}{why}, since {work.since}."
    if work.hours_left is not None:
        yield f"At this site's pace, {work.hours_left:.1f} hours are left."
    if state.left_out:
        yield state.left_out


def _patients(state: SiteState) -> Iterator[str]:
    if state.patients is None:
        return
    used = ", ".join(f"{n} {split}" for split, n in state.patients.used.items()) or "none yet"
    yield f"Patients used: {used}. Left out: {len(state.patients.left_out)}."
    for subject, code, reason in state.patients.left_out[:N_SHOWN]:
        yield f"  {subject}: {reason} [{code}]"


def _leaving(state: SiteState) -> Iterator[str]:
    for name, kinds in (("today", state.leaving.today), ("in all", state.leaving.in_all)):
        said = ", ".join(f"{n} {kind} ({size:,} bytes)" for kind, (n, size) in kinds.items())
        yield f"Left this site {name}: {said or 'nothing'}."
    for one in state.epsilons:
        left = f"{one.left:.3g} of {one.cap:g} left" if one.left is not None else "no cap is set"
        yield f"Epsilon spent of {one.whose}: {one.spent:.3g} at delta {one.delta:.2g}; {left}."


def _scores(state: SiteState) -> Iterator[str]:
    for one in state.scores[-N_SHOWN:]:
        value = f"{one.metric} {_number(one.value)} on {one.split}" if one.split else "not scored"
        own = f"; loss of its own training {_number(one.own_loss)}"
        yield f"Round {one.round}: the federated model here: {value}{own}."


def _plan(plan: PlanView) -> Iterator[str]:
    runs = f", runs {', '.join(plan.runs)}" if plan.runs else ""
    yield f"Plan {plan.sha256[:12]} ({plan.name}), came {plan.seen}{runs}: {plan.status}."
    if not plan.is_waiting or plan.cost is None:
        return
    cost = plan.cost
    each, total = f"{cost.bytes_a_round:,} bytes a round", f"{cost.bytes_in_all:,} in all"
    yield f"  {cost.n_rounds} rounds, {each}, {total}."
    if cost.epsilon is not None:
        of = f"at delta {cost.delta:.2g}, with {cost.n_train} training patients"
        yield f"  Epsilon of one patient after all rounds: {cost.epsilon:.3g} {of}."
    for name, text in plan.facts.items():
        yield f"  {name}: {text}"
    if plan.compared_with:
        yield f"  Compared with the plan approved before, {plan.compared_with}:"
    for change in plan.changes:
        yield f"    {change.key}: {change.before} -> {change.after}. {change.meaning}"
    yield f"  To decide: fedmri client approve {plan.sha256[:12]}"


def _number(value: float | None) -> str:
    return "not told" if value is None else f"{value:.3g}"

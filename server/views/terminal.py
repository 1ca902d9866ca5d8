"""The coordinator's view in a terminal: the same facts as the page, as tables."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedmri.reports.pages.templates import duration
from fedmri.reports.text.words import DASH, metric_name, number
from fedmri.server.registry.home import ServerHome
from fedmri.server.registry.presence import Member
from fedmri.server.views.notices import notices
from fedmri.server.views.printable import printable
from fedmri.server.views.status import (
    RunStatus,
    ServerStatus,
    SiteStatus,
    chosen_run,
    read_run,
    read_server,
)

PERIOD_S = 1.0
_COLORS = {"running": "cyan", "finished": "green", "failed": "red", "interrupted": "yellow"}


def server_view(status: ServerStatus) -> Group:
    """Return the sites, the runs, and what is wrong with either."""
    parts: list[RenderableType] = [_server_line(status), _members(status), run_list(status.runs)]
    parts += [_text(reason, "red") for reason in status.broken.values()]
    return Group(*parts)


def run_list(runs: Sequence[RunStatus]) -> RenderableType:
    """Return one line a run."""
    if not runs:
        return _text("No run yet: submit one with `fedmri server run PLAN.yaml`.")
    table = _table("run", "status", "round", "loss", "primary metric", "sites", "submitted")
    for run in runs:
        last = run.rounds[-1] if run.rounds else None
        score = f"{metric_name(run.metric)} {_number(last.metric if last else None)}"
        cells = [f"{run.round_index} of {run.n_rounds}", _number(last.loss if last else None)]
        cells += [score, str(len(run.sites)), run.submitted]
        table.add_row(_text(run.name), _status(run), *(_text(cell) for cell in cells))
    return table


def run_view(run: RunStatus, now: str) -> Group:
    """Return a run with its sites.

    Args:
        run: The run.
        now: Time to which `last seen` is told, ISO.
    """
    parts: list[RenderableType] = [_headline(run)]
    if run.message:
        parts.append(_text(run.message, "red" if run.status == "failed" else ""))
    if run.waiting_for and run.status == "running":
        parts.append(_text(f"Waiting for {', '.join(run.waiting_for)}.", "yellow"))
    last = run.rounds[-1] if run.rounds else None
    if last is not None:
        parts.append(
            _text(
                f"Round {last.round_index}: loss {_number(last.loss)}, "
                f"{metric_name(run.metric)} {_number(last.metric)} on validation patients, "
                f"{last.n_sites} sites, {_seconds(last.seconds)}."
            )
        )
    parts += [_text(f"  {text}", "yellow") for text in notices(run, now)]
    parts.append(_sites(run, now))
    return Group(*parts)


def watch_view(status: ServerStatus, run: RunStatus | None) -> Group:
    """Return what `watch` shows: one run, or the whole server where there is none."""
    if run is None:
        return server_view(status)
    others = [other for other in status.runs if other.name != run.name and not other.is_over]
    names = _text(f"Also under way: {', '.join(other.name for other in others)}." if others else "")
    return Group(_server_line(status), run_view(run, status.time), names)


def watch_terminal(home: ServerHome, name: str, console: Console) -> None:
    """Draw a run again and again until it is over; without one, until Ctrl-C.

    In a pipe it is drawn once.

    Raises:
        UsageError: There is no such run (U52), or its files are broken (U41).
    """
    with Live(console=console, auto_refresh=False) as live:
        while True:
            status = read_server(home)
            run = read_run(home, name) if name else chosen_run(status)
            live.update(watch_view(status, run), refresh=True)
            if not console.is_terminal or (run is not None and name and run.is_over):
                return
            time.sleep(PERIOD_S)


def ago(seen: str | None, now: str) -> str:
    """Return how long ago a time was, in words; `never` where there is none."""
    if not seen:
        return "never"
    try:
        seconds = (_parsed(now) - _parsed(seen)).total_seconds()
    except (ValueError, TypeError):
        return DASH
    return f"{duration(float(max(0, round(seconds))))} ago"


def _parsed(time: str) -> dt.datetime:
    return dt.datetime.fromisoformat(time)


def _server_line(status: ServerStatus) -> Text:
    if status.is_server_running:
        n_online = sum(bool(member.is_online) for member in status.members)
        n_all = sum(not member.is_revoked for member in status.members)
        return _text(f"Server running, {n_online} of {n_all} sites online. {status.time}")
    return _text(f"Server not running: who is online is not known. {status.time}", "yellow")


def _members(status: ServerStatus) -> RenderableType:
    if not status.members:
        return _text(
            "No site yet: enrol one with `fedmri server enroll NAME KEY.pub --max-patients N`."
        )
    table = _table("site", "online", "last seen", "enrolled")
    for member in status.members:
        seen = ago(member.last_seen, status.time)
        table.add_row(_text(member.site), _presence(member), _text(seen), _text(member.enrolled))
    return table


def _headline(run: RunStatus) -> Text:
    doing = {
        "training": f"round {min(run.round_index + 1, run.n_rounds)} of {run.n_rounds}",
        "validation": f"validation after round {run.round_index} of {run.n_rounds}",
        "test": f"test after round {run.round_index} of {run.n_rounds}",
        "done": f"all {run.n_rounds} rounds done",
    }[run.stage]
    attempts = f", attempt {run.attempts}" if run.attempts > 1 else ""
    moved = f", {_megabytes(run.bytes_down)} MB down, {_megabytes(run.bytes_up)} MB up"
    text = _text(run.name, "bold")
    text.append("  ").append(_status(run)).append(f": {doing}{attempts}{moved}")
    return text.append(f"\nSHA-256 of the weights {run.sha256}") if run.sha256 else text


def _sites(run: RunStatus, now: str) -> Table:
    score = metric_name(run.metric)
    table = _table(
        "site", "online", "last seen", "answer", "rounds", "left out", "loss", score,
        "trained", "waited", "MB down", "MB up",
    )  # fmt: skip
    for site in run.sites:
        left_out = ", ".join(f"{code} ({n})" for code, n in site.left_out.items())
        cells = [ago(site.last_seen, now), _answer(run, site), str(site.n_rounds), left_out or "0"]
        cells += [_number(site.loss), _number(site.metric)]
        cells += [_seconds(site.train_seconds), _seconds(site.seconds)]
        cells += [_megabytes(site.bytes_down), _megabytes(site.bytes_up)]
        table.add_row(_text(site.site), _presence(site), *(_text(cell) for cell in cells))
    return table


def _answer(run: RunStatus, site: SiteStatus) -> str:
    if site.answer:
        return site.answer
    return "waiting" if site.site in run.waiting_for and run.status == "running" else DASH


def _presence(site: Member | SiteStatus) -> Text:
    if site.is_revoked:
        return _text("revoked", "red")
    if isinstance(site, SiteStatus) and site.is_mailed:
        return _text("by letters", "dim")
    words = {True: ("online", "green"), False: ("offline", "red"), None: ("not known", "dim")}
    return _text(*words[site.is_online])


def _status(run: RunStatus) -> Text:
    return _text(run.status, _COLORS.get(run.status, ""))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(_text(column))
    return table


def _number(value: float | None) -> str:
    return DASH if value is None else number(value)


def _seconds(value: float | None) -> str:
    return DASH if value is None else duration(value)


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f}"

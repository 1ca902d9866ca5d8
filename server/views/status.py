"""Where a consortium stands: its sites, its runs and their rounds, read from the server's files."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fedmri.errors import UsageError, told
from fedmri.server.registry.attendance import Standing, read_standings
from fedmri.server.registry.home import ServerHome
from fedmri.server.registry.presence import Member, Presence, members, read_presence
from fedmri.server.runs import RunFolder, RunNote
from fedmri.server.views.history import (
    History,
    PlanFacts,
    broken_file,
    finite,
    read_history,
    read_object,
    read_plan_facts,
    weighted_mean,
)

ENDED = ("finished", "failed", "stopped")
"""States of a run that nothing but a person changes."""

CUT = "the server does not run: the run goes on by itself when it is back"

Stage = Literal["training", "validation", "test", "done"]


@dataclass(frozen=True)
class RoundStatus:
    """A complete round, over the sites whose updates were used.

    Attributes:
        rejected: Code by site that was left out.
        loss: Mean training loss of the sites, weighted by examples.
        metric: Mean of the sites' primary metric on validation patients, weighted by patients.
    """

    round_index: int
    seconds: float | None
    n_sites: int
    rejected: Mapping[str, str]
    loss: float | None
    metric: float | None


@dataclass(frozen=True)
class SiteStatus:
    """A site's part in a run.

    Attributes:
        answer: In the stage that goes on: ``ok``, a code, or nothing as long as it is waited for.
        n_rounds: Rounds in which its update was used.
        left_out: Number of rounds it was left out of, by code; R05 is a site that was too late
            or lost.
        loss: Training loss of its last update that was used.
        metric: Its last primary metric on validation patients.
        seconds: Time from the order to its last update, as the server saw it.
        train_seconds: Time that it trained for that, as the site measured it.
        standing: Where it stands with the order that is out, if one is.
        left_out_since: First of the rounds up to the last that it was left out of without a break.
        is_mailed: Whether it gets letters: nobody knows whether it is there.
        is_revoked: Whether it was shut out since the run began.
    """

    site: str
    is_online: bool | None
    last_seen: str | None
    answer: str
    n_rounds: int
    left_out: Mapping[str, int]
    n_subjects: int | None
    loss: float | None
    metric: float | None
    seconds: float | None
    train_seconds: float | None
    bytes_down: int
    bytes_up: int
    standing: Standing | None = None
    left_out_since: int | None = None
    is_mailed: bool = False
    is_revoked: bool = False

    @property
    def is_waited_for(self) -> bool:
        """Whether the others wait for it, where it has not answered."""
        standing = self.standing
        is_passed = standing is not None and (standing.is_missed or standing.state == "refused")
        return not (self.answer or is_passed or self.is_revoked)


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    Attributes:
        name: Folder under ``runs/``.
        status: ``queued``, ``running``, ``finished``, ``failed``, ``stopped``, ``interrupted``; a
            run that goes on is ``interrupted`` as long as the server does not run.
        stage: What the server does or was doing.
        round_index: Last complete round; the one under way is the next while ``training``.
        metric: Name of the primary metric.
        sha256: Of the final weights, or nothing.
        order: Kind of the order that is out, or nothing.
        until: When its deadline is, UTC, or nothing.
    """

    name: str
    status: str
    message: str
    attempts: int
    submitted: str
    stage: Stage
    round_index: int
    n_rounds: int
    metric: str
    is_higher_better: bool
    bytes_down: int
    bytes_up: int
    sha256: str
    sites: tuple[SiteStatus, ...]
    rounds: tuple[RoundStatus, ...]
    is_server_running: bool = True
    order: str = ""
    until: str = ""

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """Sites that the others wait for in the stage that goes on."""
        if self.status in ENDED or self.stage == "done":
            return ()
        return tuple(site.site for site in self.sites if site.is_waited_for)

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, well or not."""
        return self.status in ENDED


@dataclass(frozen=True)
class ServerStatus:
    """Where the whole consortium stands; runs that cannot be read are named with the reason."""

    time: str
    is_server_running: bool
    members: tuple[Member, ...]
    runs: tuple[RunStatus, ...]
    broken: Mapping[str, str]


def read_server(home: ServerHome) -> ServerStatus:
    """Return the state of a server's folder; a broken run does not hide the others."""
    presence = read_presence(home)
    runs: list[RunStatus] = []
    broken: dict[str, str] = {}
    for name in run_folders(home):
        try:
            runs.append(read_run(home, name))
        except UsageError as error:
            broken[name] = str(error)
    runs.sort(key=lambda run: (run.submitted, run.name))
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    is_running = presence.is_server_running
    return ServerStatus(now, is_running, members(home, presence), tuple(runs), broken)


def read_run(home: ServerHome, name: str) -> RunStatus:
    """Return the state of a run.

    Raises:
        UsageError: There is no such run (U52), or one of its files is broken (U41).
    """
    folder = run_folder(home, name)
    facts = read_plan_facts(folder / "signed.json")
    state, history = read_object(folder / "run.json"), read_history(folder / "metrics.jsonl")
    try:
        names = {str(site) for site in state.get("members") or ()} | history.sites
        rounds = tuple(_rounds(history, facts))
        stage, at = _stage(history, facts, names)
        presence = read_presence(home)
        answers = _answers(history, stage, at)
        order, standings = read_standings(folder)
        plain = (
            _site(history, facts, site, answers.get(site, ""), presence) for site in sorted(names)
        )
        revoked = {name for name, entry in home.sites().items() if entry.is_revoked}
        note = RunNote(mailbox=state.get("mailbox", ""), mailed=tuple(state.get("mailed", ())))
        mailed = (note.mailed or names) if note.mailbox else ()
        sites = tuple(
            replace(
                site,
                standing=standings.get(site.site),
                left_out_since=_since(rounds, site.site),
                is_mailed=site.site in mailed,
                is_revoked=site.site in revoked,
            )
            for site in plain
        )
        is_there = presence.is_server_running
        has_process = is_there if note.is_served else RunFolder(folder).has_own_process
        is_cut = state["status"] == "running" and not has_process
        cut = CUT if note.is_served else f"its process ended: fedmri server run --resume {name}"
        return RunStatus(
            name=name,
            status="interrupted" if is_cut else str(state["status"]),
            message=cut if is_cut else str(state.get("message", "")),
            is_server_running=presence.is_server_running,
            order=order.get("kind", ""),
            until=order.get("until", ""),
            attempts=int(state.get("attempts", 0)),
            submitted=str(state.get("submitted", "")),
            stage=stage,
            round_index=rounds[-1].round_index if rounds else 0,
            n_rounds=facts.n_rounds,
            metric=facts.target.primary,
            is_higher_better=facts.target.is_higher_better,
            bytes_down=sum(site.bytes_down for site in sites),
            bytes_up=sum(site.bytes_up for site in sites),
            sha256=next((str(record.get("sha256")) for record in history.of_kind("done")), ""),
            sites=sites,
            rounds=rounds,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = told(error)
        raise broken_file(folder, found, "the files of a run as the server writes them") from error


def run_folders(home: ServerHome) -> dict[str, Path]:
    """Return the folder of each run by its name."""
    files = sorted(home.runs.glob("[!.]*/run.json"))
    return {path.parent.name: path.parent for path in files}


def run_folder(home: ServerHome, name: str) -> Path:
    """Return the folder of a run; a name is looked up and never made into a path.

    Raises:
        UsageError: There is no such run (U52).
    """
    folders = run_folders(home)
    if name not in folders:
        found = f"{name!r}; there are {', '.join(folders) or 'none'}"
        fix = "name one that `fedmri server list` shows"
        raise UsageError("U52", "run", found=found, want="a run of this server", fix=fix)
    return folders[name]


def chosen_run(status: ServerStatus, name: str = "") -> RunStatus | None:
    """Return the named run, else the newest that goes on, else the newest."""
    if name:
        return next((run for run in status.runs if run.name == name), None)
    going_on = tuple(run for run in status.runs if not run.is_over)
    return next(reversed(going_on or status.runs), None)


def as_json(value: ServerStatus | RunStatus) -> dict[str, Any]:
    """Return a status as JSON has it, what is derived included; no number in it is NaN."""
    fields = asdict(value)
    if isinstance(value, RunStatus):
        return fields | {"waiting_for": list(value.waiting_for), "is_over": value.is_over}
    return fields | {"runs": [as_json(run) for run in value.runs]}


def _rounds(history: History, facts: PlanFacts) -> Iterator[RoundStatus]:
    for total in history.of_kind("round_total"):
        at = int(total["round"])
        used = [record for record in history.of_kind("round", at) if record["status"] == "ok"]
        scores = list(history.of_kind("validation", at))
        yield RoundStatus(
            round_index=at,
            seconds=finite(total.get("seconds")),
            n_sites=int(total["n_sites"]),
            rejected=dict(total["rejected"]),
            loss=weighted_mean((r.get("loss"), r.get("n_examples", 1)) for r in used),
            metric=weighted_mean((_score(r, facts), r.get("n_subjects")) for r in scores),
        )


def _score(record: Mapping[str, Any], facts: PlanFacts) -> float | None:
    return finite((record.get("metrics") or {}).get(facts.target.primary))


def _stage(history: History, facts: PlanFacts, names: set[str]) -> tuple[Stage, int]:
    """Return the stage that goes on, and its round."""
    last = max((int(record["round"]) for record in history.of_kind("round_total")), default=0)
    if any(history.of_kind("done")):
        return "done", last
    is_scored = last and facts.evaluate_every and last % facts.evaluate_every == 0
    scored = {str(record["site"]) for record in history.of_kind("validation", last)}
    has_begun_next = any(history.of_kind("round", last + 1)) or any(history.of_kind("test"))
    if is_scored and not has_begun_next and not names <= scored:
        return "validation", last
    return ("test", last) if last >= facts.n_rounds else ("training", last + 1)


def _answers(history: History, stage: Stage, at: int) -> dict[str, str]:
    """Return what each site answered in a stage, as far as it has."""
    kind = {"training": "round", "validation": "validation"}.get(stage, "test")
    records = history.of_kind(kind, at if stage in {"training", "validation"} else None)
    return {str(record["site"]): str(record["status"]) for record in records}


def _since(rounds: Sequence[RoundStatus], site: str) -> int | None:
    """Return the first round of those at the end that a site was left out of; None for none."""
    first = None
    for one in reversed(rounds):
        if site not in one.rejected:
            break
        first = one.round_index
    return first


def _site(
    history: History, facts: PlanFacts, site: str, answer: str, presence: Presence
) -> SiteStatus:
    rounds = history.of_site("round", site)
    used = [record for record in rounds if record["status"] == "ok"]
    last = used[-1] if used else {}
    scores = [_score(record, facts) for record in history.of_site("validation", site)]
    found = [score for score in scores if score is not None]
    is_online, last_seen = presence.of(site)
    return SiteStatus(
        site=site,
        is_online=is_online,
        last_seen=last_seen,
        answer=answer,
        n_rounds=len(used),
        left_out=dict(Counter(str(r["status"]) for r in rounds if r["status"] != "ok")),
        n_subjects=last.get("n_subjects"),
        loss=finite(last.get("loss")),
        metric=found[-1] if found else None,
        seconds=finite(last.get("seconds")),
        train_seconds=finite(last.get("train_seconds")),
        bytes_down=sum(int(record.get("bytes_down", 0)) for record in rounds),
        bytes_up=sum(int(record.get("bytes_up", 0)) for record in rounds),
    )

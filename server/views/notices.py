"""What a coordinator must know of the sites of a run, one sentence each: who, what, since when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from fedmri.errors import CODES
from fedmri.reports.pages.templates import duration
from fedmri.server.registry.attendance import PUT_OFF
from fedmri.server.views.status import RunStatus, SiteStatus

DOING = {"train": "trains", "evaluate": "scores the model", "query": "adds up"}


def notices(run: RunStatus, now: str) -> list[str]:
    """Return a sentence for each site that is waited for, or that the others go on without.

    Args:
        run: The run.
        now: Time to which durations are told, ISO.
    """
    found = [*_left_out(run)]
    if run.status == "running":
        found += [text for site in run.sites for text in _of(run, site, now)]
    return found


def _of(run: RunStatus, site: SiteStatus, now: str) -> Iterator[str]:
    standing = site.standing
    if site.is_revoked:
        yield f"{site.site} was revoked. It is not asked any more."
        return
    if site.is_mailed and site.is_online:
        yield f"{site.site} dials in, but this run asks it by letters: have it use --mailbox."
    if standing is None or not (run.order or standing.state == "refused"):
        return
    since, name = lasting(standing.since, now), site.site
    said = {
        "asked": f"{DOING.get(run.order, 'has its order')}, for {since}",
        "unanswered": f"was asked and has not answered yet, for {since}",
        "lost": f"lost its order and is asked again, for {since}",
        "late": f"is late with its answer, for {since}",
        "unreachable": f"{_away(site)}, for {since}",
        "unapproved": f"has not approved the plan and is asked again and again, for {since}",
        "waiting": f"trains at other hours and is asked again, for {since}",
        "refused": f"refuses this run, for {since}: {standing.reason or 'it does not tell why'}",
    }
    if standing.state not in said:
        return
    is_passed_over = standing.is_missed and standing.state not in ("asked", "unanswered", "lost")
    goes_on = "; the others no longer wait for it" if is_passed_over else ""
    code = f" [{standing.code}]" if standing.state in (*PUT_OFF, "refused") else ""
    ends = ". It is not asked any more" if standing.state == "refused" else ""
    yield f"{name} {said[standing.state]}{goes_on}{code}{ends}."


def _away(site: SiteStatus) -> str:
    return "gets no letters: the mailbox cannot be written" if site.is_mailed else "is not online"


def _left_out(run: RunStatus) -> Iterator[str]:
    for site in run.sites:
        if site.left_out_since is None or site.is_revoked:
            continue
        code = run.rounds[-1].rejected[site.site]
        first, last = site.left_out_since, run.rounds[-1].round_index
        rounds = f"round {last}" if first == last else f"rounds {first} to {last}"
        yield f"{site.site} was left out of {rounds}: {CODES.get(code, 'not listed')} [{code}]."


def lasting(since: str, now: str) -> str:
    """Return the time between two ISO times in words."""
    try:
        passed = dt.datetime.fromisoformat(now) - dt.datetime.fromisoformat(since)
    except (ValueError, TypeError):
        return "a time that is not known"
    return duration(float(max(0, round(passed.total_seconds()))))

"""An order that is out at the sites of a deployment: whoever was lost is asked again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

from fedmri.errors import RoundError

log = logging.getLogger("fedmri.server")

POLL_S = 0.5
MAX_ASKED = 5
"""Times that a site is asked in one exchange; a site that always crashes is not asked for ever."""
UNAPPROVED = "P11"
"""Code of a site whose people have not looked at the plan yet: it is asked again, ever later."""
FIRST_PAUSE_S, LAST_PAUSE_S = 10.0, 300.0
LOST = frozenset({3, 4, 5, 8})
"""Flower's error codes of an app that was not there, a node offline, and an app that crashed."""

UNREADABLE = (AttributeError, DecodeError, LookupError, RecursionError, TypeError, ValueError)
"""What comes of bytes that are no message: Flower believes a site that they are one."""


@dataclass(frozen=True)
class Present:
    """A node that is online: its id, and since when."""

    node_id: int
    since: str


@dataclass(frozen=True)
class _Asked:
    message_ids: tuple[str, ...]
    node: Present
    n_asked: int


@dataclass(frozen=True)
class _Refused:
    """A site that may still say yes: what it said, and when it is asked again."""

    reply: Message
    again: float
    pause_s: float


def present(grid: Grid) -> dict[str, Present]:
    """Return the nodes that are online, by site, in ascending order of site."""
    nodes: Sequence[Any] = list(grid.get_nodes())
    named = {
        node.name or str(node.node_id): Present(node.node_id, node.last_activated_at)
        for node in nodes
    }
    return dict(sorted(named.items()))


def wait_for_sites(grid: Grid, names: Sequence[str], n_least: int, timeout_s: float) -> None:
    """Wait until enough sites are online.

    Args:
        grid: Flower's grid.
        names: Sites that count; empty counts all.
        n_least: How many are enough.
        timeout_s: Longest wait.

    Raises:
        RoundError: They did not come (R40).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        there = present(grid)
        online = [name for name in names or there if name in there]
        if len(online) >= n_least:
            return
        if time.monotonic() > deadline:
            break
        log.info("waiting for %d sites; online: %s", n_least, ", ".join(online) or "none")
        time.sleep(POLL_S)
    absent = ", ".join(sorted(set(names) - set(online))) or "others"
    found = f"{len(online)} ({', '.join(online) or 'none'}) after {timeout_s:.0f} s"
    fix = f"ask {absent} to start `fedmri client`, then resume; or lower rounds.min_sites"
    raise RoundError("R40", "sites online", found=found, want=f"{n_least} or more", fix=fix)


class Asking:
    """One order at several sites, until each has answered or one deadline is over.

    The deadline is moved by progress: it ends ``timeout_s`` after the last answer. A site whose
    process or machine went away, or that comes late, is asked (again) as soon as it is online.
    Answers are taken in ascending order of site, one at a time: the others wait on the disk of
    SuperLink.

    Args:
        grid: Flower's grid of a deployment.
        message_to: Makes the order for a node.
        sites: Who is asked, in ascending order.
        timeout_s: Longest time without an answer.
    """

    def __init__(
        self,
        grid: Grid,
        message_to: Callable[[int], Message],
        sites: Sequence[str],
        timeout_s: float,
    ) -> None:
        self._grid = grid
        self._message_to = message_to
        self._timeout_s = timeout_s
        self._open = dict.fromkeys(sites)
        self._asked: dict[str, _Asked] = {}
        self._refused: dict[str, _Refused] = {}
        self._deadline = time.monotonic() + timeout_s

    def replies(self) -> Iterator[Message | None]:
        """Yield each site's reply, or None where it gave none in time."""
        for site in list(self._open):
            yield self._wait(site)
            self._open.pop(site)

    def _wait(self, site: str) -> Message | None:
        while True:
            self._ask_who_is_there()
            try:
                reply = self._reply(site)
            except UNREADABLE as error:
                log.warning("site %s gave no answer but what ends in %r", site, error)
                self._deadline = time.monotonic() + self._timeout_s
                return None
            if reply is not None:
                self._deadline = time.monotonic() + self._timeout_s
                return reply
            if time.monotonic() > self._deadline:
                log.warning("site %s gave no answer in time", site)
                refused = self._refused.get(site)
                return refused.reply if refused else None
            time.sleep(POLL_S)

    def _ask_who_is_there(self) -> None:
        there = present(self._grid)
        for site in self._open:
            node, asked = there.get(site), self._asked.get(site)
            if node is None or (asked and asked.node == node) or self._is_thinking(site):
                continue
            n_asked = asked.n_asked if asked else 0
            if n_asked == MAX_ASKED:
                continue
            if n_asked:
                log.warning("site %s was lost and is asked again", site)
            new = self._grid.push_messages([self._message_to(node.node_id)])
            # an answer to the first order may be on its way still: either will do
            ids = (*(asked.message_ids if asked else ()), *new)
            self._asked[site] = _Asked(ids, node, n_asked + 1)

    def _reply(self, site: str) -> Message | None:
        asked = self._asked.get(site)
        if asked is None:
            return None
        ids = asked.message_ids
        for reply in list(self._grid.pull_messages(ids)) if ids else ():
            if is_unapproved(reply):
                self._let_think(site, reply)
                return None
            if not reply.has_error() or reply.error.code not in LOST:
                return reply
            log.warning("site %s was lost: %s", site, reply.error.reason)
            ids = tuple(i for i in ids if i != reply.metadata.reply_to_message_id)
            if not ids and asked.n_asked == MAX_ASKED:
                return reply
        if ids != asked.message_ids:
            # no node is there since "": the site is asked again once it is online
            node = asked.node if ids else Present(asked.node.node_id, "")
            self._asked[site] = _Asked(ids, node, asked.n_asked)
        return None

    def _let_think(self, site: str, reply: Message) -> None:
        before = self._refused.get(site)
        pause_s = min(2 * before.pause_s, LAST_PAUSE_S) if before else FIRST_PAUSE_S
        log.warning("site %s has not approved the plan; asked again in %.0f s", site, pause_s)
        self._refused[site] = _Refused(reply, time.monotonic() + pause_s, pause_s)
        self._asked.pop(site)

    def _is_thinking(self, site: str) -> bool:
        refused = self._refused.get(site)
        return refused is not None and time.monotonic() < refused.again


def is_unapproved(reply: Message) -> bool:
    """Tell whether a site answers that nobody there has approved the plan yet."""
    return reply.has_error() and str(reply.error.reason).endswith(f" {UNAPPROVED}")

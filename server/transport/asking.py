"""An order that is out at the sites of a deployment: whoever was lost is asked again."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

from fedmri.machine.pauses import Pauses
from fedmri.server.registry.attendance import (
    PUT_OFF,
    REFUSED,
    REVOKED,
    Attendance,
    Missed,
    State,
)
from fedmri.server.registry.nodes import Present, mailed, present
from fedmri.server.transport.answers import Answers
from fedmri.server.transport.refusals import (
    SILENT,
    PutOff,
    code_of,
    is_put_off,
    reason_told,
    state_of,
)

log = logging.getLogger("fedmri.server")

SHORTEST_S, LONGEST_S = 0.05, 1.0
"""Between two looks at answers, after one has come and when none does."""
MAX_ASKED = 5
"""Times that a site is asked in one exchange; a site that always crashes is not asked for ever."""
FIRST_PAUSE_S, LAST_PAUSE_S = 10.0, 300.0
GRACE_S = 15.0
"""Most refusals come sooner. After it, what a site said to an older order holds no more."""
N_QUICK = 10
"""Sites that are looked at at full pace; with more of them, each is looked at less often."""
OFFLINE = 5
LOST = frozenset({3, 4, OFFLINE, 8})
"""Flower's error codes of an app that was not there, a node offline, and an app that crashed."""

UNREADABLE = (
    *(AttributeError, DecodeError, LookupError, RecursionError, TypeError, ValueError),
    MemoryError,
)
"""What comes of bytes that are no message: Flower believes a site that they are one."""
UNREADABLE_CODE = "R03"
"""Code of a site whose answer is no message."""


@dataclass(frozen=True)
class Terms:
    """How long an order is waited for.

    Attributes:
        kind: Sort of order, for whoever watches.
        timeout_s: Longest time from the order to the last answer.
        n_needed: Answers without which nothing comes of it: with fewer, the whole of that time is
            waited, also for sites that let the last order pass.
        n_enough: Usable answers with which the order is closed at once; 0 waits for all.
        busy: Sites that have an order of an earlier exchange: an answer to that one will do.
        is_usable: Whether a site's answer counts among those.
        n_timeouts: How long an order lives: longer than all waits for it.
    """

    kind: str
    timeout_s: float
    n_needed: int = 0
    n_enough: int = 0
    busy: frozenset[str] = frozenset()
    is_usable: Callable[[str, RecordDict], bool] = lambda site, content: True
    n_timeouts: int = 3


@dataclass(frozen=True)
class Taken:
    """What came of a site.

    Attributes:
        content: Its answer, or None.
        code: ``ok``, or why there is none.
        seconds: Since it was asked.
    """

    content: RecordDict | None
    code: str
    seconds: float


@dataclass(frozen=True)
class _Asked:
    message_ids: tuple[str, ...]
    node: Present
    n_asked: int
    at: float


class Asking:
    """One order at several sites, side by side, until each has answered or one deadline is over.

    A site whose process or machine went away, or that comes late, is asked (again) as soon as it
    is online; one whose people have not approved the plan yet, or that trains at other hours, is
    asked again after each pause. One that refused the run is not asked before it comes online anew.
    Nobody waits for a site that the coordinator revokes meanwhile. No site waits for another.
    Answers are taken as they come and handed on in ascending order of site: one is in memory,
    those before their turn are on the disk.

    A site that let the last order pass is asked as all others, but not waited for, once enough
    have answered. It is waited for again as soon as it shows that it is there: it has come online
    anew, is done with an older order, or has kept an order for a while. So each silence costs one
    deadline, however many rounds it lasts. Whether a site takes an order that it keeps, nobody
    knows before its answer. A site that gets letters shows itself by that alone: till then, what
    it said last stands.

    Args:
        grid: Flower's grid of a deployment.
        message_to: Makes the order for a site and its node.
        sites: Who is asked, in ascending order.
        terms: How long.
        attendance: What is known of the sites from order to order.
    """

    def __init__(
        self,
        grid: Grid,
        message_to: Callable[[str, int], Message],
        sites: Sequence[str],
        terms: Terms,
        attendance: Attendance,
    ) -> None:
        self._grid, self._message_to, self._terms = grid, message_to, terms
        self._attendance, self._mailed = attendance, mailed(grid)
        self._sites, self._open = tuple(sites), dict.fromkeys(sites)
        self._expected = {site for site in sites if site not in attendance.missed}
        self._asked: dict[str, _Asked] = {}
        self._refused: dict[str, PutOff] = {}
        self._taken: dict[str, Taken] = {}
        self._there: dict[str, Present] = {}
        self._head, self._n_good, self._is_closed = "", 0, False
        self._began, self._pauses = time.monotonic(), Pauses(SHORTEST_S, LONGEST_S)

    def replies(self) -> Iterator[Taken]:
        """Yield what came of each site, in their order.

        Raises:
            RoundError: An answer cannot wait for its turn, for want of disk (R44).
        """
        seconds = dt.timedelta(seconds=self._terms.timeout_s)
        until = f"{dt.datetime.now(dt.UTC) + seconds:%Y-%m-%dT%H:%M:%SZ}"
        self._attendance.begin(self._terms.kind, until)
        with Answers(self._attendance.folder) as answers:
            self._answers = answers
            self._pass_over_refusing()
            self._go_on_with_busy()
            for site in self._sites:
                self._head = site
                yield self._wait(site)
        self._attendance.end()

    def _pass_over_refusing(self) -> None:
        """Leave sites in peace that refused this run, until they come online anew."""
        there = present(self._grid)
        for site in self._sites:
            refusal, node = self._attendance.refusal(site), there.get(site)
            if refusal is not None and (node is None or node.since == refusal.activation):
                self._open.pop(site)
                self._taken[site] = Taken(None, REFUSED, 0.0)

    def _go_on_with_busy(self) -> None:
        """Take the orders that busy sites have as asked; one that is away is asked again."""
        there = present(self._grid)
        for site in self._terms.busy & self._open.keys():
            missed = self._attendance.missed.get(site)
            if missed is not None and missed.message_ids:
                node = there.get(site, Present(0, ""))
                self._asked[site] = _Asked(missed.message_ids, node, 1, self._began)

    def _wait(self, site: str) -> Taken:
        while True:
            if not self._is_closed:
                self._look()
            if site not in self._open:
                return self._handed_on(site)
            if self._is_closed or self._is_over():
                self._close()
                return Taken(None, PUT_OFF.get(self._last_word(site), SILENT), self._seconds(site))
            self._attendance.write()
            time.sleep(self._pauses.next_s() * max(1.0, len(self._asked) / N_QUICK))

    def _handed_on(self, site: str) -> Taken:
        taken = self._taken.pop(site)
        is_kept = taken.code == "ok" and taken.content is None
        return replace(taken, content=self._answers.take(site)) if is_kept else taken

    def _seconds(self, site: str) -> float:
        asked = self._asked.get(site)
        return time.monotonic() - (asked.at if asked else self._began)

    def _look(self) -> None:
        """Ask whom it is time to ask; take the answers that are there."""
        self._there = present(self._grid)
        self._let_go_of_revoked()
        for site in list(self._open):
            self._ask_if_due(site)
        for site in sorted(self._open, key=lambda site: (site != self._head, site)):
            self._pull(site)
            if site == self._head and site not in self._open:
                return  # its answer is in memory: no other is taken before it is handed on
            self._look_for_signs(site)

    def _let_go_of_revoked(self) -> None:
        for site in self._attendance.revoked() & self._open.keys():
            self._open.pop(site)
            self._taken[site] = Taken(None, REVOKED, self._seconds(site))
            if self._attendance.shut_out(site):
                log.warning("site %s was revoked: nobody waits for it", site)

    def _ask_if_due(self, site: str) -> None:
        node, asked = self._there.get(site), self._asked.get(site)
        if node is None:
            self._note_absent(site)
            return
        refused = self._refused.get(site)
        is_thinking = refused is not None and time.monotonic() < refused.again
        if (asked and asked.node == node) or is_thinking:
            return
        n_asked, ids = (asked.n_asked, asked.message_ids) if asked else (0, ())
        if n_asked == MAX_ASKED:
            return
        order = self._message_to(site, node.node_id)
        new = tuple(filter(None, self._grid.push_messages([order])))
        if not new and site in self._mailed:  # the mailbox is away: it is tried again
            self._note_absent(site)
            return
        # an answer to the first order may be on its way still: either will do
        at = asked.at if asked else time.monotonic()
        self._asked[site] = _Asked((*ids, *new), node, n_asked + 1, at)
        if self._attendance.state(site) not in (*PUT_OFF, "late"):
            self._attendance.ask(site)

    def _note_absent(self, site: str) -> None:
        # that it has not approved says more than that its connection broke
        if self._said(site) is None and self._attendance.note(site, "unreachable"):
            log.warning("site %s is not online", site)

    def _pull(self, site: str) -> None:
        asked = self._asked.get(site)
        if asked is None or not asked.message_ids:
            return
        try:
            replies = list(self._grid.pull_messages(asked.message_ids))
        except UNREADABLE as error:
            log.warning("site %s gave no answer but what ends in %r", site, error)
            self._finish(site, None, UNREADABLE_CODE)
            return
        for reply in replies:
            if is_put_off(reply):
                self._let_think(site, code_of(reply))
            elif not reply.has_error() or reply.error.code not in LOST:
                self._finish(site, reply)
            else:
                self._note_lost(site, reply)
            if site not in self._open or site not in self._asked:
                return

    def _note_lost(self, site: str, reply: Message) -> None:
        asked = self._asked[site]
        ids = tuple(i for i in asked.message_ids if i != reply.metadata.reply_to_message_id)
        if not ids and asked.n_asked == MAX_ASKED:
            self._finish(site, reply)
            return
        # no node is there since "": the site is asked again once it is online
        node = asked.node if ids else Present(asked.node.node_id, "")
        self._asked[site] = replace(asked, message_ids=ids, node=node)
        if self._attendance.note(site, "lost"):
            log.warning("site %s was lost and is asked again: %r", site, reply.error.reason)

    def _finish(self, site: str, reply: Message | None, odd: str = "") -> None:
        """Note a site's last word in this exchange; ``odd`` is the code of one that is none."""
        content = reply.content if reply is not None and reply.has_content() else None
        code = "ok" if content is not None else odd or code_of(reply)
        self._open.pop(site)
        self._pauses.restart()
        self._n_good += content is not None and self._terms.is_usable(site, content)
        if content is not None and site != self._head:
            self._answers.put(site, content)
            content = None
        self._taken[site] = Taken(content, code, self._seconds(site))
        self._attendance.is_back(site)
        if code == REFUSED:
            self._attendance.refuse(site, self._asked[site].node.since, reason_told(reply))
        else:
            self._attendance.note(site, "answered", code)

    def _let_think(self, site: str, code: str) -> None:
        before, now = self._refused.get(site), time.monotonic()
        pause_s = min(2 * before.pause_s, LAST_PAUSE_S) if before else FIRST_PAUSE_S
        if self._attendance.note(site, state_of(code), code):
            log.warning("site %s puts its answer off and is asked again: %s", site, code)
        self._refused[site] = PutOff(now, now + pause_s, pause_s, code)
        self._asked.pop(site)
        missed = self._attendance.missed.get(site)
        if missed is not None:
            self._attendance.missed[site] = replace(missed, message_ids=())
            self._expected.discard(site)

    def _look_for_signs(self, site: str) -> None:
        """Wait again for a site that let an order pass, once it shows that it is there."""
        missed, node, asked = (
            self._attendance.missed.get(site),
            self._there.get(site),
            self._asked.get(site),
        )
        has_kept = bool(asked and asked.message_ids) and self._seconds(site) > GRACE_S
        has_kept = has_kept and site not in self._mailed
        said = self._said(site)
        if has_kept and said is not None:
            self._refused[site] = replace(said, is_last_word=False)
            self._attendance.note(site, "unanswered")
        if missed is None or site in self._expected or site in self._terms.busy:
            return
        is_new = node is not None and node.since != missed.activation
        is_new = is_new and missed.state not in PUT_OFF
        is_done = self._is_done_with_older(site, missed)
        if is_new or is_done or (has_kept and not missed.message_ids):
            self._expected.add(site)
            self._attendance.ask(site)
            log.info("site %s is there again", site)

    def _said(self, site: str) -> PutOff | None:
        """Return what a site put its answer off with, if that holds."""
        found = self._refused.get(site)
        return found if found is not None and found.is_last_word else None

    def _is_done_with_older(self, site: str, missed: Missed) -> bool:
        """Tell whether a late site has ended the order that it was late with, well or not."""
        if not missed.message_ids:
            return False
        try:
            replies = list(self._grid.pull_messages(missed.message_ids))
            is_no_sign = all(is_put_off(reply) or _is_offline(reply) for reply in replies)
        except UNREADABLE:
            replies, is_no_sign = [], False
        else:
            if not replies:
                return False
        state = missed.state
        for code in (code_of(reply) for reply in replies if is_put_off(reply)):
            state = state_of(code)
            self._attendance.note(site, state, code)
        self._attendance.missed[site] = replace(missed, state=state, message_ids=())
        return not is_no_sign

    def _is_over(self) -> bool:
        if time.monotonic() - self._began > self._terms.timeout_s:
            return True
        if 0 < self._terms.n_enough <= self._n_good:
            return True
        if self._n_good < self._terms.n_needed or any(map(self._is_waited_for, self._open)):
            return False
        now = time.monotonic()
        due = [
            site
            for site in self._open
            if site in self._refused
            and site not in self._asked
            and now - self._refused[site].at > FIRST_PAUSE_S
        ]
        for site in due:  # once more before the end: its people may have approved meanwhile
            self._refused[site] = replace(self._refused[site], again=now)
        return not due

    def _is_waited_for(self, site: str) -> bool:
        if site in self._expected:
            return True
        missed, asked = self._attendance.missed[site], self._asked.get(site)
        is_unheard = bool(missed.message_ids) or site in self._mailed
        return asked is not None and bool(asked.message_ids) and not is_unheard

    def _last_word(self, site: str) -> State:
        """Return where a site stands that gives no answer: as it said, or late."""
        said = self._said(site)
        if said is not None:
            return state_of(said.code)
        missed = self._attendance.missed.get(site)
        is_said = missed is not None and missed.state in PUT_OFF and site in self._mailed
        return missed.state if missed is not None and is_said else "late"

    def _close(self) -> None:
        """Note who let the order pass."""
        if self._is_closed:
            return
        self._is_closed = True
        for site in self._open:
            node, asked = self._there.get(site), self._asked.get(site)
            state = self._last_word(site)
            state = "unreachable" if node is None and state == "late" else state
            before = self._attendance.missed.get(site, Missed(state)).message_ids
            ids = dict.fromkeys((*before, *(asked.message_ids if asked else ())))
            is_kept = state == "late" or site in self._mailed
            kept = tuple(ids) if is_kept else ()
            self._attendance.miss(site, Missed(state, node.since if node else "", kept))
            log.warning("site %s gave no answer in time (%s)", site, state)


def _is_offline(reply: Message) -> bool:
    return reply.has_error() and reply.error.code == OFFLINE

"""Updates as they come: a round closes when enough are there, and may take those of earlier rounds.

Each site has one order at a time, of this round or of an earlier one. What a round took is on the
disk before the model moves: a run that goes on after a crash, or is replayed, takes the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from flwr.app import MessageType, RecordDict

from fedmri.errors import RoundError
from fedmri.harmonize.sums import Arrays
from fedmri.round import Update
from fedmri.server.late.closed import FILE, Closed, ClosedRounds
from fedmri.server.late.models import SentModels
from fedmri.server.rounds.exchange import Answer, StreamingGrid
from fedmri.server.rounds.in_clear import Expected, InClear
from fedmri.server.rounds.run import LATE, Running, SumForm
from fedmri.server.transport.answers import Answers
from fedmri.server.transport.asking import UNREADABLE, Terms
from fedmri.server.transport.refusals import SILENT
from fedmri.strategies.stale import carried_over, staleness_weight
from fedmri.wire import SumsOrder, TrainOrder, content_of, unbundle

log = logging.getLogger("fedmri.server")


@dataclass(frozen=True)
class _Round:
    """A round that is being held.

    Attributes:
        order: Its order.
        sites: Sites of the run that are there.
        out: The round of each site's order; who is not in it is not asked.
        rejected: Why sites gave no usable update.
    """

    order: TrainOrder
    sites: Sequence[str]
    out: Mapping[str, int]
    rejected: dict[str, str]

    @property
    def index(self) -> int:
        """Its number."""
        return self.order.round_index

    @property
    def older(self) -> frozenset[str]:
        """Sites that are busy with an earlier order."""
        return frozenset(site for site, sent in self.out.items() if sent < self.index)


class AsTheyCome:
    """The channel of a run whose rounds do not wait for all."""

    def __init__(self, running: Running) -> None:
        folder = running.run.folder
        self.running, self._clear = running, InClear(running)
        self._closed, self._sent = ClosedRounds(folder / FILE), SentModels(folder / "sent")
        self._rounds = running.plan.rounds
        self._expected: dict[int, Expected] = {}

    @cached_property
    def _is_streamed(self) -> bool:
        return isinstance(self.running.grid, StreamingGrid)

    def total(
        self, order: SumsOrder, form: SumForm, sites: Sequence[str], left_out: dict[str, str]
    ) -> Arrays:
        """Return the sum of what each site sent; see ``InClear``."""
        return self._clear.total(order, form, sites, left_out)

    def updates(
        self, order: TrainOrder, sites: Sequence[str], rejected: dict[str, str]
    ) -> Iterator[Update]:
        """Yield the updates that this round takes; then write down which they were."""
        known = self._closed.of(order.round_index)
        said = known.left_out if known is not None else {}
        out = self._orders(order.round_index, sites)
        if known is not None:
            out = {site: sent for site, sent in known.taken.items() if site in sites}
        now = _Round(order, sites, out, rejected)
        taken: dict[str, int] = {}
        for answer in self._answers(now, is_known=known is not None):
            if answer.content is not None:
                taken[answer.site] = out[answer.site]
                if answer.site in said:  # it trained, and was not used
                    self.running.tell(now.index, answer.site, said[answer.site], rejected)
                    continue
            elif answer.code == SILENT and self._is_out(answer.site):
                continue
            yield from self._accepted(answer, now)
            del answer  # before the next is taken: one update is held at a time
        self._expected.clear()
        busy = self._busy(now, taken) if known is None else dict(known.out)
        self._tell_others(now, taken, busy, said)
        left_out = {site: code for site, code in rejected.items() if code != LATE}
        self._close(now, Closed(taken, busy, left_out))

    def _orders(self, round_index: int, sites: Sequence[str]) -> dict[str, int]:
        """Return the round of each site's order: an earlier one where it is busy with that."""
        before, most = self._closed.of(round_index - 1), self._rounds.max_staleness
        out = before.out if before is not None else {}
        kept = {site: sent for site, sent in out.items() if round_index - sent <= most}
        return {site: kept.get(site, round_index) for site in sites}

    def _answers(self, now: _Round, *, is_known: bool) -> Iterator[Answer]:
        """Yield what came of the sites that are asked, in ascending order of site."""
        if self._is_streamed:
            due = tuple(sorted(now.out)) if is_known else self._due(now)
            yield from self._in_groups(now, due)
            return
        names, n_all = tuple(sorted(now.out)), len(now.sites)
        n_needed, n_enough = self._rounds.n_needed(n_all), self._rounds.n_enough(n_all)
        if is_known:
            n_needed = n_enough = len(names)  # all of them were there
        terms = Terms(
            *(MessageType.TRAIN, self.running.exchanges.timeout_s, n_needed, n_enough, now.older),
            is_usable=lambda site, content: self._is_usable(now, site, content),
            n_timeouts=Terms.n_timeouts + self._rounds.max_staleness,
        )
        yield from self.running.exchanges.ask_each(self._contents(now), names, terms)

    def _due(self, now: _Round) -> tuple[str, ...]:
        """Return the sites of a simulation whose answers come in a round.

        Who declared to be slow is late; where too few others are there, the round lasts until
        enough of the slow ones have come.
        """
        slow = self.running.run.slow

        def wait(site: str) -> int:
            return max(0, slow.get(site, 1) - (now.index - now.out[site] + 1))

        order = sorted(now.out, key=lambda site: (wait(site), site))
        n_there = sum(wait(site) == 0 for site in order)
        n_least = min(self._rounds.n_enough(len(now.sites)), len(order))
        return tuple(sorted(order[: max(n_there, n_least)]))

    def _in_groups(self, now: _Round, due: Sequence[str]) -> Iterator[Answer]:
        """Ask the sites of a simulation: each earlier order first, for one is out at a time."""
        ask, older = self.running.exchanges.ask, sorted({now.out[s] for s in due} - {now.index})
        waiting: dict[str, Answer] = {}
        contents = self._contents(now)
        with Answers(self.running.run.folder) as answers:
            for sent in older:
                group = [site for site in due if now.out[site] == sent]
                for answer in ask(MessageType.TRAIN, contents(group[0]), group):
                    if answer.content is not None:
                        answers.put(answer.site, answer.content)
                    waiting[answer.site] = replace(answer, content=None)
                    del answer
            fresh = [site for site in due if site not in waiting]
            in_time = ask(MessageType.TRAIN, content_of(now.order), fresh)
            for site in due:
                if site not in waiting:
                    yield next(in_time)
                elif waiting[site].code == "ok":
                    yield replace(waiting[site], content=answers.take(site))
                else:
                    yield waiting[site]
            next(in_time, None)  # so that the grid can put away the last one

    def _contents(self, now: _Round) -> Callable[[str], RecordDict]:
        """Return what gives the order of a site, of the round that it is of."""
        fresh = content_of(now.order)

        def content_for(site: str) -> RecordDict:
            sent = now.out[site]
            return fresh if sent == now.index else content_of(self._order(now, sent))

        return content_for

    def _order(self, now: _Round, sent: int) -> TrainOrder:
        """Return the order of a round; what goes beside the model is the same in all of them."""
        if sent == now.index:
            return now.order
        return replace(now.order, round_index=sent, weights=self._sent.of(sent))

    def _expect(self, now: _Round, site: str) -> Expected:
        sent = now.out[site]
        if sent not in self._expected:
            self._expected[sent] = self._clear.expected(self._order(now, sent))
        return self._expected[sent]

    def _is_usable(self, now: _Round, site: str, content: RecordDict) -> bool:
        """Tell whether an answer counts among those that close the round."""
        try:
            self._clear.read(site, unbundle(content), self._expect(now, site), {})
        except (RoundError, *UNREADABLE):
            return False
        return True

    def _accepted(self, answer: Answer, now: _Round) -> Iterator[Update]:
        """Yield the update of an answer, carried over to the model of now where it is late."""
        expected = self._expect(now, answer.site)
        sent, n_late = expected.order, now.index - expected.order.round_index
        for update in self._clear.accepted(answer, expected, now.index, now.rejected):
            if n_late:
                weight = staleness_weight(n_late, self._rounds.staleness_power)
                parameters = self.running.made.layout.parameters
                yield carried_over(update, sent.weights, now.order.weights, parameters, weight)
            else:
                yield update
            del update

    def _is_out(self, site: str) -> bool:
        """Tell whether a silent site of a deployment has its order still."""
        missed = self.running.exchanges.attendance.missed.get(site)
        return missed is not None and bool(missed.message_ids)

    def _busy(self, now: _Round, taken: Mapping[str, int]) -> dict[str, int]:
        """Return the sites that keep their order; all get another where late updates are lost."""
        if self._rounds.late == "dropped":
            return {}
        open_ = {site: sent for site, sent in now.out.items() if site not in taken}
        if self._is_streamed:
            return {site: sent for site, sent in open_.items() if site not in now.rejected}
        return {site: sent for site, sent in open_.items() if self._is_out(site)}

    def _tell_others(
        self,
        now: _Round,
        taken: Mapping[str, int],
        busy: Mapping[str, int],
        said: Mapping[str, str],
    ) -> None:
        """Write down why sites are left out that gave no answer: as in the round that is known."""
        for site in now.sites:
            if site not in taken and site not in now.rejected:
                code = said.get(site, LATE if site in busy else SILENT)
                self.running.tell(
                    now.index, site, code, now.rejected, trained=busy.get(site, now.index)
                )

    def _close(self, now: _Round, closed: Closed) -> None:
        """Write down what the round took, and let go of what no later one needs."""
        self.running.busy.clear()
        self.running.busy.update(closed.out)
        if now.index in closed.out.values():
            self._sent.keep(now.index, now.order.weights)
        n_good = len(now.sites) - len(now.rejected)
        if n_good < self._rounds.n_needed(len(now.sites)):
            # the run stops here, and takes what comes when it goes on
            self._closed.forget(now.index)
            return
        self._closed.add(now.index, closed)
        # a resumed run may go on from the checkpoint before the last
        last = range(now.index - 2 * self._rounds.checkpoint_every, now.index + 1)
        rounds = [one for r in last if (one := self._closed.of(r)) is not None]
        self._sent.forget_others({sent for one in rounds for sent in one.out.values()})
        self._closed.let_go(last.start)

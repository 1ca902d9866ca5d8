"""A deployment's grid in slow motion: nodes that fetch, think, train and answer by a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from fedmri.server.registry.attendance import Attendance
from fedmri.server.rounds.exchange import Answer, Exchanges
from fedmri.server.transport import asking
from fedmri.simulation.engines.flower import Node, SimulatedGrid
from fedmri.wire.grid import sent

LOST, OFFLINE, SITE_FAILED = 3, 5, 100


class Clock:
    """A clock that stands still but for its sleepers."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass
class Hospital:
    """What a site does, in seconds from the start of the test.

    Attributes:
        takes_s: Time from an order to its answer.
        approves_s: When its people approve the plan.
        refusal_s: Time from an order to its refusal.
        online: From when to when its node is there.
        revoked_s: When the coordinator shuts it out.
        answer: Makes the content of an answer; an exception is an answer that cannot be read.
    """

    takes_s: float = 2.0
    approves_s: float = 0.0
    refusal_s: float = 1.0
    online: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, inf)])
    revoked_s: float = inf
    answer: Callable[[str], RecordDict] | None = None


@dataclass
class _Order:
    message: Message
    reply: Message | None = None
    at: float = inf
    fetched: float | None = None


class Mailbox(SimulatedGrid):
    """SuperLink and its nodes: a node has one order at a time and then fetches the newest.

    Orders that a newer one overtook, or that a node was at when it went away, are lost, as
    ``fedmri.server.transport.delivery`` makes it.
    """

    stream = None  # type: ignore[assignment]  # what tells a simulation from a deployment

    def __init__(self, clock: Clock, hospitals: dict[str, Hospital]) -> None:
        super().__init__([Node(site, {}) for site in sorted(hospitals)], {})
        self.hospitals = hospitals
        self.asked: list[tuple[str, float]] = []
        self._clock, self._start = clock, clock.now
        self._orders: dict[int, list[_Order]] = {node: [] for node in self.nodes}

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self._clock.now - self._start

    def get_nodes(self) -> list[NodeInfo]:
        """Return who is online, since when."""
        self._advance()
        return [
            NodeInfo(node_id=i, name=node.site, last_activated_at=str(since))
            for i, node in self.nodes.items()
            if (since := self._since(node.site)) is not None
        ]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take orders."""
        self._advance()
        ids = []
        for message in map(sent, messages):
            node = message.metadata.dst_node_id
            self.asked.append((self.nodes[node].site, self.now))
            self._orders[node].append(_Order(message))
            ids.append(message.metadata.message_id)
        self._advance()
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the answers that are there, once."""
        self._advance()
        wanted, found = set(message_ids), []
        for orders in self._orders.values():
            for order in [o for o in orders if o.message.metadata.message_id in wanted]:
                if order.reply is not None and order.at <= self.now:
                    found.append(order.reply)
                    orders.remove(order)
        for reply in found:
            if reply.has_content() and "unreadable" in reply.content:
                raise ValueError("what ends in no message")
        return found

    def n_asked(self, site: str) -> int:
        """Return how often a site was asked."""
        return sum(name == site for name, _ in self.asked)

    def _since(self, site: str) -> float | None:
        spans = self.hospitals[site].online
        return next((a for a, b in spans if a <= self.now < b), None)

    def _advance(self) -> None:
        for node, orders in self._orders.items():
            site = self.nodes[node].site
            ends = [b for _, b in self.hospitals[site].online if b <= self.now]
            for order in orders:
                if order.fetched is not None and any(order.fetched < b < order.at for b in ends):
                    self._lose(order)
            if self._since(site) is not None:
                self._fetch(site, orders)

    def _fetch(self, site: str, orders: list[_Order]) -> None:
        if any(order.fetched is not None and order.at > self.now for order in orders):
            return  # it has one at a time
        waiting = [order for order in orders if order.fetched is None]
        for overtaken in waiting[:-1]:
            self._lose(overtaken)
        for newest in waiting[-1:]:
            newest.fetched = self.now
            newest.reply, newest.at = self._answer(site, newest.message)

    def _answer(self, site: str, order: Message) -> tuple[Message, float]:
        hospital = self.hospitals[site]
        if self.now < hospital.approves_s:
            refusal = Message(Error(SITE_FAILED, "privacy error P11"), reply_to=order)
            return refusal, self.now + hospital.refusal_s
        content = (hospital.answer or told)(site)
        return Message(content, reply_to=order), self.now + hospital.takes_s

    def _lose(self, order: _Order) -> None:
        order.fetched = self.now
        order.reply = Message(Error(LOST, "lost"), reply_to=order.message)
        order.at = self.now


def told(site: str) -> RecordDict:
    """Return an answer that says who gives it."""
    return RecordDict({"config": ConfigRecord({"site": site})})


@dataclass
class Run:
    """Exchanges of one run with a consortium, by a clock."""

    clock: Clock
    grid: Mailbox
    exchanges: Exchanges
    sites: tuple[str, ...]

    def ask(self, n_needed: int = 0, kind: str = "train") -> tuple[dict[str, str], float]:
        """Make an exchange; return each site's code, and the seconds that it took."""
        began = self.clock.now
        answers: list[Answer] = list(self.exchanges.ask(kind, RecordDict(), self.sites, n_needed))
        assert [answer.site for answer in answers] == sorted(self.sites)
        for answer in answers:
            if answer.content is not None:
                assert answer.content.config_records["config"]["site"] == answer.site
        return {answer.site: answer.code for answer in answers}, self.clock.now - began


def consortium(
    monkeypatch: pytest.MonkeyPatch, timeout_s: float = 60.0, **hospitals: Hospital
) -> Run:
    """Return a run with hospitals; time passes only where the server waits."""
    clock = Clock()
    monkeypatch.setattr(asking, "time", clock)
    grid = Mailbox(clock, hospitals)

    def revoked() -> frozenset[str]:
        return frozenset(site for site, one in hospitals.items() if grid.now >= one.revoked_s)

    exchanges = Exchanges(grid, timeout_s, Attendance(revoked=revoked))
    return Run(clock, grid, exchanges, tuple(hospitals))

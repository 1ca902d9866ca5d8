"""Sites that were lost: asked again while the deadline lasts, and named when it is over."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo

from fedmri.errors import RoundError
from fedmri.server.registry.nodes import wait_for_sites
from fedmri.server.rounds.exchange import Answer, exchange
from fedmri.server.transport import asking
from fedmri.server.transport.asking import MAX_ASKED
from fedmri.simulation.engines.flower import Node, SimulatedGrid
from fedmri.wire.grid import sent


class Deployment(SimulatedGrid):
    """Nodes that come, go and fail as a test says; nothing streams, as in a deployment."""

    stream = None  # type: ignore[assignment]  # what tells a simulation from a deployment

    def __init__(self, sites: Iterable[str]) -> None:
        super().__init__([Node(site, {}) for site in sites], {})
        self.online = dict.fromkeys(self.nodes, "2026-01-01T00:00:00")
        self.asked: list[str] = []
        self.fate: dict[str, list[Error | str | None]] = {}
        self.waiting: dict[str, Message] = {}

    def get_nodes(self) -> list[NodeInfo]:
        """Return who is online, since when."""
        return [
            NodeInfo(node_id=i, name=self.nodes[i].site, last_activated_at=since)
            for i, since in self.online.items()
        ]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Answer each as the site's fate says: an error, content, or silence and a restart."""
        ids = []
        for message in map(sent, messages):
            node = message.metadata.dst_node_id
            site = self.nodes[node].site
            self.asked.append(site)
            fate = self.fate.get(site, []).pop(0) if self.fate.get(site) else site
            if isinstance(fate, Error):
                self.waiting[message.metadata.message_id] = Message(fate, reply_to=message)
            elif fate is None:
                self.online[node] += "0"
            else:
                content = RecordDict({"config": ConfigRecord({"site": fate})})
                self.waiting[message.metadata.message_id] = Message(content, reply_to=message)
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return what is there."""
        return [self.waiting.pop(i) for i in list(message_ids) if i in self.waiting]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between looks."""
    for pause in ("SHORTEST_S", "LONGEST_S"):
        monkeypatch.setattr(asking, pause, 0.0)


def ask(grid: Deployment, timeout_s: float = 5.0) -> list[Answer]:
    """Return the answers of all sites."""
    return list(
        exchange(grid, "train", RecordDict(), [n.site for n in grid.nodes.values()], timeout_s)
    )


def codes(answers: list[Answer]) -> dict[str, str]:
    """Return the code of each answer."""
    return {answer.site: answer.code for answer in answers}


LOST = Error(ErrorCode.CLIENT_APP_CRASHED, "crashed")


@pytest.mark.parametrize("fate", [LOST, None], ids=["crashed app", "restarted node"])
def test_a_lost_site_is_asked_again(fate: Error | None) -> None:
    """A killed process costs time and no update."""
    grid = Deployment("ab")
    grid.fate["a"] = [fate]
    assert codes(ask(grid)) == {"a": "ok", "b": "ok"}
    assert sorted(grid.asked) == ["a", "a", "b"]


class Slow(Deployment):
    """A grid that says that the first order was lost once the second is out, and answers that."""

    def __init__(self) -> None:
        super().__init__("a")
        self.fate["a"] = [None]
        self.first: Message | None = None

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Lose the first order when the second comes."""
        orders = [sent(message) for message in messages]
        if self.first is not None:
            self.waiting[self.first.metadata.message_id] = Message(LOST, reply_to=self.first)
        self.first = self.first or orders[0]
        return super().push_messages(orders)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the answer to the oldest order alone."""
        return super().pull_messages(list(message_ids)[:1])


def test_the_loss_of_an_overtaken_order_is_no_reason_to_ask_again() -> None:
    """A site that came back and was asked again trains once, whatever is heard of the first."""
    grid = Slow()
    assert codes(ask(grid)) == {"a": "ok"}
    assert grid.asked == ["a", "a"]


def test_a_site_that_always_crashes_is_not_asked_for_ever() -> None:
    """Its answer is the code of a failed site, long before the deadline."""
    grid = Deployment("ab")
    grid.fate["a"] = [LOST] * 99
    assert codes(ask(grid, timeout_s=60)) == {"a": "R05", "b": "ok"}
    assert grid.asked.count("a") == MAX_ASKED


def test_a_refusal_is_an_answer() -> None:
    """What a site decided is not asked again."""
    grid = Deployment("a")
    grid.fate["a"] = [Error(100, "privacy error P05")]
    assert codes(ask(grid)) == {"a": "P05"}
    assert grid.asked == ["a"]


def test_a_site_that_has_not_approved_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """People take their time: until the deadline their site can still say yes."""
    monkeypatch.setattr(asking, "FIRST_PAUSE_S", 0.0)
    grid = Deployment("ab")
    grid.fate["a"] = [Error(100, "privacy error P11")] * (MAX_ASKED + 2)
    assert codes(ask(grid)) == {"a": "ok", "b": "ok"}


def test_a_site_that_never_approves_is_named_so() -> None:
    """At the deadline the round closes without it, and its code says why."""
    grid = Deployment("ab")
    grid.fate["a"] = [Error(100, "privacy error P11")] * 9
    assert codes(ask(grid, timeout_s=0.2)) == {"a": "P11", "b": "ok"}
    assert grid.asked.count("a") == 1


def test_a_silent_site_is_left_out_at_the_deadline() -> None:
    """Nobody is waited for without end, and whoever answered is not lost with it."""
    grid = Deployment("abc")
    del grid.online[min(grid.online)]
    assert codes(ask(grid, timeout_s=0.2)) == {"a": "R05", "b": "ok", "c": "ok"}


def test_a_round_waits_for_its_sites_and_says_for_whom() -> None:
    """A wait that ends in vain names who is there and who is not."""
    grid = Deployment("abc")
    wait_for_sites(grid, ("a", "b", "c"), 3, 0.1)
    del grid.online[max(grid.online)]
    with pytest.raises(RoundError, match=r"found 2 \(a, b\).*want 3.*ask c to start.*\[R40\]"):
        wait_for_sites(grid, ("a", "b", "c"), 3, 0.05)

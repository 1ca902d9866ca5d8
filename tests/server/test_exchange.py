"""Orders out, answers in: the order of sites, whatever the network does."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedmri.server.rounds.exchange import exchange
from fedmri.server.transport import asking
from fedmri.simulation.engines.flower import Node
from fedmri.simulation.engines.in_process import InProcessGrid

SITES = ("c", "a", "b")
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with the site's name; site b fails by its own code, site c with a bug."""
    site = str(context.node_config["site"])
    if site == "b":
        return Message(Error(100, "data error D07"), reply_to=message)
    if site == "c":
        raise ZeroDivisionError
    return Message(RecordDict({"config": ConfigRecord({"site": site})}), reply_to=message)


class SlowGrid(Grid):
    """A grid that is pulled, as a deployment's: replies come late, reversed, and one never."""

    def __init__(self, lost: str) -> None:
        nodes = [Node(site, {"site": site}) for site in SITES]
        self._inner = InProcessGrid(app, nodes, {})
        self._lost = {i for i, node in self._inner.nodes.items() if node.site == lost}
        self._replies: list[Message] = []

    def set_run(self, run: Run) -> None:
        """Set the run."""

    @property
    def run(self) -> Run:
        """Run."""
        return self._inner.run

    def create_message(self, *args: object, **kwargs: object) -> Message:
        """Make no message: nobody asks for one."""
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        """Return the nodes."""
        return self._inner.get_node_ids()

    def get_nodes(self) -> list[NodeInfo]:
        """Return the nodes with names."""
        return self._inner.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Run all, and keep the replies."""
        waiting = list(messages)
        ids = self._inner.push_messages(waiting)
        kept = [
            i for m, i in zip(waiting, ids, strict=True) if m.metadata.dst_node_id not in self._lost
        ]
        self._replies += self._inner.pull_messages(kept)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Hand out one reply at a time, the last first."""
        wanted = set(message_ids)
        there = [r for r in self._replies if r.metadata.reply_to_message_id in wanted]
        self._replies = [r for r in self._replies if r not in there[-1:]]
        return there[-1:]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Not used."""
        raise NotImplementedError


@pytest.mark.parametrize("lost", ["", "a"])
def test_answers_come_in_the_order_of_sites(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late, reversed and lost replies: sites ascend, failures have codes, silence is R05."""
    monkeypatch.setattr(asking, "LONGEST_S", 0.0)
    grid = SlowGrid(lost)
    content = RecordDict({"config": ConfigRecord({"x": 1})})
    answers = list(exchange(grid, "train", content, SITES, 0.5))
    assert [answer.site for answer in answers] == ["a", "b", "c"]
    assert [answer.code for answer in answers] == ["R05" if lost else "ok", "D07", "R05"]


def test_a_streaming_grid_runs_clients_as_they_are_asked_for() -> None:
    """The next site is trained only when the last one's answer has been used."""
    ran: list[str] = []
    counting = ClientApp()

    @counting.train()
    def train(message: Message, context: Context) -> Message:
        ran.append(str(context.node_config["site"]))
        return Message(RecordDict(), reply_to=message)

    grid = InProcessGrid(counting, [Node(site, {"site": site}) for site in SITES], {})
    answers = exchange(grid, "train", RecordDict(), SITES, 1)
    assert ran == []
    assert next(answers).site == "a"
    assert ran == ["a"]

"""Rounds that close before all have answered: by a clock, with the clients of a hospital."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fedmri.arm import Arm
from fedmri.assembly import assemble
from fedmri.clients.app import app
from fedmri.plan import Plan, to_json
from fedmri.server.late.closed import FILE, Closed, ClosedRounds
from fedmri.server.rounds.loop import Rounds
from fedmri.server.rounds.records import Record, Records
from fedmri.server.rounds.run import LATE, Run, Running
from fedmri.server.transport import asking
from fedmri.server.transport.asking import Terms
from fedmri.simulation.engines.flower import Node, context_of
from fedmri.simulation.engines.in_process import InProcessGrid, run_client
from fedmri.wire import bundle, unbundle
from tests.server.conftest import Trained
from tests.server.mailbox import Clock, Hospital, Mailbox, consortium

SLOW_S = 7.0
"""An answer of the slow hospital; the others take 2 s."""


class Hospitals(Mailbox):
    """Nodes by a clock that run the real client; what they are told is what a simulation tells."""

    def __init__(self, clock: Clock, slow: str, nodes: list[Node], plan: Plan) -> None:
        takes = {node.site: SLOW_S if node.site == slow else 2.0 for node in nodes}
        super().__init__(clock, {site: Hospital(takes_s=s) for site, s in takes.items()})
        config: dict[str, str | int] = {"plan": to_json(plan)}
        self._contexts = {
            i: context_of(i, node, config) for i, node in zip(self.nodes, nodes, strict=True)
        }
        self._takes = takes

    def _answer(self, site: str, order: Message) -> tuple[Message, float]:
        plain = Message(
            unbundle(order.content), order.metadata.dst_node_id, order.metadata.message_type
        )
        reply = run_client(app, plain, self._contexts)
        content = bundle(reply.content)
        return Message(content, reply_to=order), self.now + self._takes[site]


class KilledError(Exception):
    """A coordinator's process ends here."""


@pytest.fixture
def plan(trained: Trained) -> Plan:
    """Return a plan whose sites keep an optimizer, and whose rounds close with two of three."""
    rounds = replace(trained.plan.rounds, n_rounds=5, close_at=0.6, late="added", evaluate_every=2)
    train = replace(trained.plan.train, is_optimizer_kept=True)
    return replace(trained.plan, rounds=rounds, train=train)


def nodes_of(trained: Trained, folder: Path) -> list[Node]:
    """Return what the sites' clients are told; their own folders lie in one."""
    prepared = trained.folder.parents[2] / "prepared"
    return [
        Node(
            site,
            {
                "site": site,
                "prepared": json.dumps([str(prepared / f"{site}.json")]),
                "folder": str(folder / site),
            },
        )
        for site in trained.sites
    ]


def run_of(plan: Plan, trained: Trained, folder: Path) -> Run:
    """Return a run in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Run(plan, Arm("federated"), trained.sites, trained.sites, folder)


def test_a_killed_deployment_with_a_slow_site_replays_to_its_bits(
    plan: Plan, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the rounds took is on the disk: the resumed run and the simulation take the same."""
    slow = trained.sites[1]
    clock = Clock()
    monkeypatch.setattr(asking, "time", clock)
    nodes = nodes_of(trained, tmp_path / "sites")

    def die(record: Record) -> None:
        if record["kind"] == "round_total" and record["round"] == 3:
            raise KilledError

    run = run_of(plan, trained, tmp_path / "server")
    with pytest.raises(KilledError):
        Rounds(run, Hospitals(clock, slow, nodes, plan), die).go()
    before = [ClosedRounds(run.folder / FILE).of(r) for r in range(1, 4)]
    assert before[0] is not None
    assert before[0].out == {slow: 1}  # the round closed with the two others
    assert [one.taken.get(slow) for one in before if one] == [None, None, 1]
    sha256 = Rounds(run, Hospitals(clock, slow, nodes, plan), lambda _: None).go()
    closed = ClosedRounds(run.folder / FILE)
    assert [closed.of(r) for r in range(1, 4)] == before

    again = run_of(plan, trained, tmp_path / "again")
    (again.folder / FILE).write_text((run.folder / FILE).read_text())
    own = nodes_of(trained, tmp_path / "own")
    grid = InProcessGrid(app, own, {"plan": to_json(plan)})
    assert Rounds(again, grid, lambda _: None).go() == sha256


def test_what_a_round_left_out_is_left_out_again(
    plan: Plan, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay knows no limit of the coordinator's registry: the record has what it came to."""
    clock = Clock()
    monkeypatch.setattr(asking, "time", clock)
    small = trained.sites[0]
    declared = {site: 1 if site == small else 10**6 for site in trained.sites}
    run = replace(run_of(plan, trained, tmp_path / "server"), declared=declared)
    nodes = nodes_of(trained, tmp_path / "sites")
    found: list[list[dict[str, str]]] = [[], []]

    def note(record: Record, n: int) -> None:
        if record["kind"] == "round_total":
            found[n].append(record["rejected"])

    grid = Hospitals(clock, "", nodes, plan)
    sha256 = Rounds(run, grid, partial(note, n=0)).go()
    assert found[0] == [{small: "R42"}] * plan.rounds.n_rounds
    again = run_of(plan, trained, tmp_path / "again")
    (again.folder / FILE).write_text((run.folder / FILE).read_text())
    replay = InProcessGrid(app, nodes_of(trained, tmp_path / "own"), {"plan": to_json(plan)})
    assert Rounds(again, replay, partial(note, n=1)).go() == sha256
    assert found[1] == found[0]


def test_a_round_that_took_the_same_stays_as_it_was_written(tmp_path: Path) -> None:
    """Nor are the rounds after it forgotten, though the repeated one tells more."""
    before = [{"round": n, "taken": {"a": n}, "out": {}} for n in (1, 2)]
    (tmp_path / FILE).write_text("".join(json.dumps(line) + "\n" for line in before))
    closed = ClosedRounds(tmp_path / FILE)
    closed.add(1, Closed({"a": 1}, {}, {"b": "P19"}))
    assert closed.of(2) is not None
    closed.add(1, Closed({"a": 1, "b": 1}))
    assert closed.of(2) is None


def test_a_round_closes_with_enough_usable_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be used does not close it; a busy site is not asked again."""
    a, b, c, d = (Hospital(seconds) for seconds in (2.0, 3.0, 5.0, 30.0))
    run = consortium(monkeypatch, a=a, b=b, c=c, d=d)
    closing = Terms("train", 60.0, 2, 2, is_usable=lambda site, _: site != "a")
    content = RecordDict({"config": ConfigRecord({"site": ""})})

    def codes(terms: Terms) -> dict[str, str]:
        asked = run.exchanges.ask_each(lambda _: content, run.sites, terms)
        return {answer.site: answer.code for answer in asked}

    began = run.clock.now
    assert codes(closing) == {"a": "ok", "b": "ok", "c": "ok", "d": "R05"}
    assert run.clock.now - began < 6.0
    later = replace(closing, n_needed=4, n_enough=4, is_usable=lambda *_: True)
    later = replace(later, busy=frozenset("d"))
    assert codes(later) == dict.fromkeys("abcd", "ok")
    assert run.grid.n_asked("d") == 1
    assert 29.0 < run.clock.now - began < 32.0


def test_a_late_update_that_counted_is_told_with_the_next_order(
    plan: Plan, trained: Trained, tmp_path: Path
) -> None:
    """The round that it joined, until an update is in time; of one still awaited, nothing yet."""
    run = run_of(plan, trained, tmp_path / "run")
    records = Records(run.folder / "metrics.jsonl", {}, lambda record: None)
    grid = InProcessGrid(app, [], {"plan": to_json(plan)})
    running = Running(run, assemble(plan), grid, records)
    told = running.exchanges.attendance.told
    running.tell(4, "a", LATE, {}, trained=3)
    assert told == {}
    running.tell(5, "a", "ok", {}, trained=3)
    assert told == {"a": (5, LATE)}
    running.tell(6, "a", "ok", {})
    assert told == {}

"""Sites that say no to a run, or not now: asked no more than they want to be."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.app import Error, Message, RecordDict

from fedmri.server.registry.attendance import Attendance
from fedmri.server.registry.home import ServerHome
from fedmri.server.rounds.exchange import Exchanges
from fedmri.server.transport import asking
from fedmri.server.views.notices import notices
from fedmri.server.views.status import read_run
from fedmri.wire import with_reason
from tests.server.conftest import Deploy
from tests.server.test_asking import Deployment

REASON = "our ethics board meets in June"
NO = Error(100, with_reason("privacy error P18", REASON))
LATER = Error(100, "privacy error P19")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing between looks."""
    monkeypatch.setattr(asking, "LONGEST_S", 0.0)


def ask(grid: Deployment, attendance: Attendance, timeout_s: float = 5.0) -> dict[str, str]:
    """Return the code of each site's answer to one order."""
    names = [node.site for node in grid.nodes.values()]
    exchanges = Exchanges(grid, timeout_s, attendance)
    return {answer.site: answer.code for answer in exchanges.ask("train", RecordDict(), names)}


def test_a_site_that_refuses_is_asked_once_until_it_comes_anew(tmp_path: Path) -> None:
    """Neither a next round nor a resumed run asks it; its client's new start does."""
    grid = Deployment("ab")
    grid.fate["a"] = [NO]
    assert ask(grid, Attendance(tmp_path)) == {"a": "P18", "b": "ok"}
    assert ask(grid, Attendance(tmp_path)) == {"a": "P18", "b": "ok"}
    assert grid.asked.count("a") == 1
    refusal = Attendance(tmp_path).refusal("a")
    assert refusal is not None
    assert refusal.reason == REASON
    grid.online[min(grid.online)] += "0"
    assert ask(grid, Attendance(tmp_path)) == {"a": "ok", "b": "ok"}
    assert Attendance(tmp_path).refusal("a") is None


def test_a_site_outside_of_its_hours_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains as soon as its hours begin; where they do not, its code says why."""
    monkeypatch.setattr(asking, "FIRST_PAUSE_S", 0.0)
    grid = Deployment("ab")
    grid.fate["a"] = [LATER] * 3
    assert ask(grid, Attendance()) == {"a": "ok", "b": "ok"}
    monkeypatch.setattr(asking, "FIRST_PAUSE_S", 9.0)
    grid.fate["a"] = [LATER]
    attendance = Attendance()
    assert ask(grid, attendance, timeout_s=0.2) == {"a": "P19", "b": "ok"}
    assert attendance.missed["a"].state == "waiting"


class ByLetter(Deployment):
    """A grid that asks one of its sites by letters: nobody sees its client start or end."""

    mailed = frozenset("a")

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Write letters."""
        online = dict(self.online)
        ids = super().push_messages(messages)
        self.online = online
        return ids


def test_what_a_site_of_the_mailbox_said_last_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is no yes where nobody sees who is there, and no round waits for it again."""
    for seconds in ("FIRST_PAUSE_S", "GRACE_S"):
        monkeypatch.setattr(asking, seconds, 0.0)
    grid, attendance = ByLetter("ab"), Attendance()
    grid.fate["a"] = [LATER, None, None, None]
    assert ask(grid, attendance, timeout_s=0.3) == {"a": "P19", "b": "ok"}
    started = time.monotonic()
    assert ask(grid, attendance, timeout_s=5) == {"a": "P19", "b": "ok"}
    assert time.monotonic() - started < 1
    assert attendance.missed["a"].state == "waiting"
    assert ask(grid, attendance) == {"a": "P19", "b": "ok"}


@pytest.mark.parametrize("code", ["ok", "P11", "P18", "P19"])
def test_a_site_is_not_told_what_it_said_itself(code: str) -> None:
    """It chose to give nothing: nobody left its update out."""
    attendance = Attendance(None, told={"a": (1, "R42")})
    attendance.tell("a", 2, code)
    assert attendance.told == {}


def test_a_restart_forgets_nothing_that_a_site_is_yet_to_be_told(tmp_path: Path) -> None:
    """Its next order says that it was left out, whichever process of the server sends it."""
    before = Attendance(tmp_path)
    before.tell("a", 3, "R42")
    before.begin("train", "2026-01-01T00:00:00Z")
    after = Attendance(tmp_path)
    assert after.told == {"a": (3, "R42")}
    after.tell("a", 4, "ok")
    after.begin("train", "2026-01-01T00:00:00Z")
    assert Attendance(tmp_path).told == {}


def test_the_coordinator_reads_the_reason(coordinator: ServerHome, deploy: Deploy) -> None:
    """Status and page have one sentence of who refuses and why."""
    run = deploy("tiny", 4)
    attendance = Attendance(run.path)
    site = read_run(coordinator, "tiny").sites[0].site
    attendance.refuse(site, "", REASON)
    attendance.write()
    refusal = attendance.refusal(site)
    assert refusal is not None
    said = notices(read_run(coordinator, "tiny"), refusal.since)
    assert f"{site} refuses this run, for 0.0 s: {REASON} [P18]. It is not asked any more." in said

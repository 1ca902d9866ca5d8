"""A site that the coordinator shuts out while a run goes on: nobody waits for it."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest
from flwr.app import RecordDict

from fedmri.server.deployed import Revoked
from fedmri.server.registry.enrolment import make_home
from fedmri.server.registry.home import EnrolledSite
from fedmri.server.transport.asking import Terms
from tests.server.mailbox import Hospital, Run, consortium

TIMEOUT_S = 60.0
QUICK_S = 15.0
NEVER = inf


@pytest.mark.parametrize(
    "leaving",
    [
        Hospital(takes_s=NEVER, revoked_s=10.0),
        Hospital(takes_s=NEVER, revoked_s=10.0, online=[(0.0, 10.0)]),
        Hospital(approves_s=NEVER, revoked_s=10.0),
        Hospital(online=[], revoked_s=10.0),
    ],
    ids=["trains", "is cut off meanwhile", "has not approved", "was never there"],
)
@pytest.mark.parametrize("name", ["a", "z"], ids=["is asked first", "is asked last"])
def test_others_go_on_as_soon_as_a_site_is_revoked(
    monkeypatch: pytest.MonkeyPatch, leaving: Hospital, name: str
) -> None:
    """It is named by its code; the round does not last until the deadline."""
    run = consortium(monkeypatch, TIMEOUT_S, **{name: leaving, "b": Hospital(), "c": Hospital()})
    run.sites = tuple(sorted(run.sites))
    codes, seconds = run.ask(n_needed=3)
    assert codes == {name: "P12", "b": "ok", "c": "ok"}
    assert seconds < QUICK_S


def test_a_revoked_site_costs_later_rounds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked: it may still be connected for a moment."""
    run = consortium(monkeypatch, TIMEOUT_S, a=Hospital(revoked_s=5.0), b=Hospital())
    assert run.ask()[0] == {"a": "ok", "b": "ok"}
    run.clock.sleep(10.0)
    for kind in ("train", "evaluate"):
        codes, seconds = run.ask(kind=kind)
        assert codes == {"a": "P12", "b": "ok"}
        assert seconds < QUICK_S
    assert run.exchanges.attendance.state("a") == "revoked"


def test_an_answer_that_was_taken_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a site gave as a member counts in the round that took it."""
    leaving, slow = Hospital(takes_s=2.0, revoked_s=10.0), Hospital(takes_s=20.0)
    run = consortium(monkeypatch, TIMEOUT_S, a=slow, b=leaving)
    assert run.ask()[0] == {"a": "ok", "b": "ok"}


def test_an_order_of_an_earlier_round_is_not_waited_for_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where rounds do not wait for all, a busy site that is revoked is busy no more."""
    late = Hospital(takes_s=300.0, revoked_s=TIMEOUT_S + 10.0)
    run = consortium(monkeypatch, TIMEOUT_S, a=late, b=Hospital())
    assert run.ask(n_needed=1)[0]["a"] == "R05"
    assert "a" in run.exchanges.attendance.missed
    run.clock.sleep(20.0)
    codes = _ask_on(run, busy=frozenset("a"))
    assert codes == {"a": "P12", "b": "ok"}
    assert "a" not in run.exchanges.attendance.missed


def _ask_on(run: Run, busy: frozenset[str]) -> dict[str, str]:
    terms = Terms("train", TIMEOUT_S, busy=busy)
    answers = run.exchanges.ask_each(lambda site: RecordDict(), run.sites, terms)
    return {answer.site: answer.code for answer in answers}


def test_who_is_revoked_is_read_while_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that cannot be read for a moment takes nobody back."""
    monkeypatch.setattr("fedmri.server.deployed.LOOK_S", 0.0)
    home = make_home(tmp_path / "server", ["localhost"], 9092)
    find = Revoked(home)
    assert find() == frozenset()
    known = EnrolledSite("a", "ecdsa-sha2-nistp384 AAAA", "2030-01-02", is_revoked=True)
    home.write_sites([known])
    assert find() == {"a"}
    home.registry.write_text("{")
    assert find() == {"a"}

"""Sites are asked side by side: one that is silent costs one deadline, and no other site."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, RecordDict

from fedmri.server.registry.attendance import FILE, Attendance
from fedmri.server.rounds.exchange import Exchanges
from fedmri.server.transport.asking import FIRST_PAUSE_S, GRACE_S, LONGEST_S, MAX_ASKED
from tests.server.mailbox import Hospital, Run, consortium, told

TIMEOUT_S = 60.0
NEVER = inf
AWAY: list[tuple[float, float]] = []


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (Hospital(online=AWAY), "R05"),
        (Hospital(takes_s=NEVER), "R05"),
        (Hospital(approves_s=NEVER), "P11"),
    ],
    ids=["away", "hangs", "has not approved"],
)
def test_a_silent_site_does_not_keep_others_from_being_asked_again(
    monkeypatch: pytest.MonkeyPatch, first: Hospital, code: str
) -> None:
    """B and C approve while A is silent: their answers are there within the one deadline."""
    late = {name: Hospital(approves_s=25.0) for name in ("b", "c")}
    run = consortium(monkeypatch, TIMEOUT_S, a=first, **late)
    codes, seconds = run.ask(n_needed=2)
    assert codes == {"a": code, "b": "ok", "c": "ok"}
    assert seconds == pytest.approx(TIMEOUT_S, abs=2 * LONGEST_S)


def test_answers_do_not_move_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine sites that answer one by one keep nobody waiting for the tenth beyond its time."""
    slow = {f"b{i}": Hospital(takes_s=6.0 * i) for i in range(1, 10)}
    run = consortium(monkeypatch, TIMEOUT_S, a=Hospital(takes_s=NEVER), **slow)
    codes, seconds = run.ask()
    assert codes == {"a": "R05", **dict.fromkeys(slow, "ok")}
    assert seconds == pytest.approx(TIMEOUT_S, abs=2 * LONGEST_S)


def test_a_slow_site_has_all_of_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that trains is waited for though the quorum is there."""
    run = consortium(monkeypatch, TIMEOUT_S, a=Hospital(), b=Hospital(takes_s=55.0))
    codes, seconds = run.ask(n_needed=1)
    assert codes == {"a": "ok", "b": "ok"}
    assert seconds < TIMEOUT_S


@pytest.mark.parametrize(
    "silent",
    [Hospital(online=AWAY), Hospital(takes_s=NEVER), Hospital(approves_s=NEVER)],
    ids=["away", "hangs", "never approves"],
)
def test_a_silence_costs_one_deadline_however_long_it_lasts(
    monkeypatch: pytest.MonkeyPatch, silent: Hospital
) -> None:
    """From the second order on the others go on without the site."""
    run = consortium(monkeypatch, TIMEOUT_S, a=silent, b=Hospital(), c=Hospital())
    run.ask(n_needed=2)
    for kind in ("evaluate", "train") * 3:
        codes, seconds = run.ask(n_needed=2, kind=kind)
        assert (codes["b"], codes["c"]) == ("ok", "ok")
        assert codes["a"] != "ok"
        assert seconds < 2 * FIRST_PAUSE_S


def test_too_few_others_wait_for_the_silent_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the quorum is not there, every site may still come until the deadline."""
    run = consortium(
        monkeypatch, TIMEOUT_S, a=Hospital(approves_s=NEVER), b=Hospital(), c=Hospital()
    )
    run.ask(n_needed=2)
    codes, seconds = run.ask(n_needed=3)
    assert codes == {"a": "P11", "b": "ok", "c": "ok"}
    assert seconds == pytest.approx(TIMEOUT_S, abs=2 * LONGEST_S)


@pytest.mark.parametrize("at", [75.0, 79.0, 83.0])
def test_a_site_joins_the_round_in_which_it_approves(
    monkeypatch: pytest.MonkeyPatch, at: float
) -> None:
    """Rounds of 12 s, the first of 60: whoever approves during the third is in the third."""
    trains = {name: Hospital(takes_s=12.0) for name in ("b", "c")}
    run = consortium(monkeypatch, TIMEOUT_S, a=Hospital(approves_s=at), **trains)
    found = []
    for _ in range(4):
        began = run.grid.now
        codes, _seconds = run.ask(n_needed=2)
        found.append((codes["a"], began <= at < run.grid.now))
    joined = [code for code, _ in found].index("ok")
    assert found[joined] == ("ok", True)
    assert [code for code, _ in found[joined:]] == ["ok"] * len(found[joined:])


def test_a_site_that_comes_back_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away for the first order and the second, it is back in the middle of the third."""
    back = Hospital(takes_s=20.0, online=[(75.0, inf)])
    run = consortium(monkeypatch, TIMEOUT_S, a=back, b=Hospital(takes_s=10.0))
    assert run.ask(n_needed=1)[0]["a"] == "R05"
    assert run.ask(n_needed=1)[0]["a"] == "R05"
    codes, seconds = run.ask(n_needed=1)
    assert codes == {"a": "ok", "b": "ok"}
    assert seconds > 20.0


def test_an_answer_to_an_older_order_is_a_sign_of_life_and_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A site needs 65 s once: its late answer is dropped, and its next is waited for."""
    slow = Hospital(takes_s=65.0, answer=told)
    run = consortium(monkeypatch, TIMEOUT_S, a=slow, b=Hospital(takes_s=10.0))
    assert run.ask(n_needed=1)[0] == {"a": "R05", "b": "ok"}
    slow.takes_s = 40.0
    codes, seconds = run.ask(n_needed=1)
    assert codes == {"a": "ok", "b": "ok"}
    assert 40.0 < seconds < TIMEOUT_S


def test_a_site_that_is_busy_with_an_older_order_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three times too slow, it is in every few rounds, and the others' rounds stay short."""
    run = consortium(monkeypatch, TIMEOUT_S, a=Hospital(takes_s=180.0), b=Hospital(takes_s=10.0))
    took = [run.ask(n_needed=1)[1] for _ in range(10)]
    assert took[0] == pytest.approx(TIMEOUT_S, abs=2 * LONGEST_S)
    assert sum(seconds > 15.0 for seconds in took) <= 2


def test_a_node_that_comes_and_goes_ends_its_round_with_its_own_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that crashes at every order is not asked for ever."""
    spans = [(4.0 * i, 4.0 * i + 3.0) for i in range(100)]
    run = consortium(monkeypatch, TIMEOUT_S, a=Hospital(takes_s=10.0, online=spans), b=Hospital())
    assert run.ask()[0] == {"a": "R05", "b": "ok"}
    assert run.grid.n_asked("a") == MAX_ASKED


def test_an_answer_that_cannot_be_read_is_its_sites_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends in an exception of the transport leaves that site out, at once."""
    odd = Hospital(answer=lambda site: RecordDict({"unreadable": ConfigRecord({"site": site})}))
    run = consortium(monkeypatch, TIMEOUT_S, a=Hospital(takes_s=5.0), b=odd, c=Hospital())
    codes, seconds = run.ask(n_needed=2)
    assert codes == {"a": "ok", "b": "R03", "c": "ok"}
    assert seconds < 10.0
    assert run.grid.n_asked("b") == 1


def test_a_turn_of_an_absent_site_passes_once_it_is_known_to_be_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that travels from site to site waits one deadline for it, not one a round."""
    run = consortium(monkeypatch, TIMEOUT_S, a=Hospital(online=AWAY))
    assert run.ask()[1] == pytest.approx(TIMEOUT_S, abs=2 * LONGEST_S)
    assert run.ask()[1] < 2 * LONGEST_S


def test_forty_sites_are_asked_in_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's order waits for somebody else's answer."""
    many = {f"s{i:02d}": Hospital(takes_s=20.0 - i / 4) for i in range(40)}
    run = consortium(monkeypatch, TIMEOUT_S, **many)
    codes, seconds = run.ask()
    assert set(codes.values()) == {"ok"}
    assert {at for _, at in run.grid.asked} == {0.0}
    assert seconds < 25.0


def test_whoever_watches_reads_who_is_waited_for_and_since_when(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file names each site's state; a server that starts again waits for no silence twice."""
    run = consortium(
        monkeypatch, TIMEOUT_S, a=Hospital(approves_s=NEVER), b=Hospital(online=AWAY), c=Hospital()
    )
    run.exchanges = Exchanges(run.grid, TIMEOUT_S, Attendance(tmp_path))
    run.ask(n_needed=1)
    found = json.loads((tmp_path / FILE).read_text())
    states = {site: (one["state"], one["code"]) for site, one in found["sites"].items()}
    assert states == {
        "a": ("unapproved", "P11"),
        "b": ("unreachable", ""),
        "c": ("answered", "ok"),
    }
    assert [site for site, one in found["sites"].items() if one["is_missed"]] == ["a", "b"]
    run.exchanges = Exchanges(run.grid, TIMEOUT_S, Attendance(tmp_path))
    assert run.ask(n_needed=1)[1] < FIRST_PAUSE_S


def states_of(
    run: Run, site: str, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[float, str | None]]:
    """Return what becomes the list of a site's states, each with the second it was first seen."""
    seen: list[tuple[float, str | None]] = []
    sleep = run.clock.sleep

    def look(seconds: float) -> None:
        state = run.exchanges.attendance.state(site)
        if not seen or seen[-1][1] != state:
            seen.append((run.grid.now, state))
        sleep(seconds)

    monkeypatch.setattr(run.clock, "sleep", look)
    return seen


def test_a_site_that_has_said_nothing_yet_is_not_told_to_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loaded machine refuses after 40 s: till then nobody knows, and its refusal counts then."""
    loaded = Hospital(approves_s=NEVER, refusal_s=40.0)
    run = consortium(monkeypatch, 120.0, a=loaded, b=Hospital(takes_s=120.0))
    seen = states_of(run, "a", monkeypatch)
    run.ask()
    assert [state for _, state in seen] == ["unanswered", "unapproved"] * 2
    asked_again = 40.0 + FIRST_PAUSE_S
    wanted = [0.0, 40.0, asked_again + GRACE_S, asked_again + 40.0]
    assert [at for at, _ in seen] == pytest.approx(wanted, abs=2 * LONGEST_S)
    assert run.grid.n_asked("a") == 3  # the second pause is longer than the first


def test_a_refusal_after_the_deadline_is_taken_when_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A site was late; its refusal of the old order tells before that of the new."""
    loaded = Hospital(approves_s=NEVER, refusal_s=TIMEOUT_S + 5.0)
    run = consortium(monkeypatch, TIMEOUT_S, a=loaded, b=Hospital(takes_s=20.0))
    assert run.ask(n_needed=1)[0] == {"a": "R05", "b": "ok"}
    loaded.refusal_s = 8.0
    seen = states_of(run, "a", monkeypatch)
    assert run.ask(n_needed=1)[0] == {"a": "P11", "b": "ok"}
    assert [state for _, state in seen] == ["late", "unapproved"]
    assert seen[1][0] == pytest.approx(TIMEOUT_S + 5.0, abs=2 * LONGEST_S)


def test_answers_before_their_turn_wait_on_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing of them is left when the exchange is over, or after a process was killed in it."""
    run = consortium(monkeypatch, TIMEOUT_S, a=Hospital(takes_s=9.0), b=Hospital(), c=Hospital())
    run.exchanges = Exchanges(run.grid, TIMEOUT_S, Attendance(tmp_path))
    (tmp_path / ".answers-of-a-killed-process").mkdir()
    (tmp_path / ".answers-of-a-killed-process" / "1").write_bytes(b"left over")
    assert set(run.ask()[0].values()) == {"ok"}
    assert [path.name for path in tmp_path.iterdir()] == [FILE]

"""Consortia that a silent, slow, dead or refused hospital spoilt, after public reports."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
import torch

from fedmri.errors import PrivacyError, RoundError
from fedmri.round import Update
from fedmri.secagg.secure_sum import Roll
from fedmri.server.registry.enrolment import limit
from fedmri.server.registry.home import EnrolledSite, ServerHome
from fedmri.server.registry.presence import LOCK, hold, read_presence
from fedmri.server.rounds.accept import MOST_EXAMPLES, Bounds, check_update
from fedmri.server.rounds.exchange import Answer
from fedmri.server.rounds.secure import SecureSums, Wanted
from fedmri.server.transport.asking import LONGEST_S
from fedmri.wire import TrainOrder, content_of, notice_of, with_notice
from tests.server.mailbox import Hospital, consortium

TIMEOUT_S = 60.0
NEVER = inf
AWAY: list[tuple[float, float]] = []


@pytest.mark.parametrize(
    ("slow", "code"),
    [
        pytest.param(Hospital(takes_s=NEVER), "R05", id="hangs"),
        pytest.param(Hospital(takes_s=61.0), "R05", id="one second too slow"),
        pytest.param(Hospital(online=AWAY), "R05", id="never came"),
        pytest.param(Hospital(online=[(0.0, 1.0)]), "R05", id="left at once"),
        pytest.param(Hospital(approves_s=NEVER), "P11", id="never approves"),
        pytest.param(Hospital(takes_s=59.0), "ok", id="one second to spare"),
        pytest.param(Hospital(approves_s=31.0), "ok", id="approves at half time"),
        pytest.param(Hospital(online=[(40.0, inf)]), "ok", id="comes late"),
    ],
)
def test_a_round_ends_at_its_deadline_with_whom_there_is(
    monkeypatch: pytest.MonkeyPatch, slow: Hospital, code: str
) -> None:
    """Clients beyond a time are to be ignored, and the others kept.

    After flwrlabs/flower issue #1172.
    """
    run = consortium(monkeypatch, TIMEOUT_S, a=slow, b=Hospital(), c=Hospital(takes_s=30.0))
    codes, seconds = run.ask(n_needed=2)
    assert codes == {"a": code, "b": "ok", "c": "ok"}
    assert seconds <= TIMEOUT_S + 2 * LONGEST_S


@pytest.mark.parametrize("takes_s", [61.0, 90.0, 119.0])
def test_an_answer_of_an_older_round_is_no_answer_of_this_one(
    monkeypatch: pytest.MonkeyPatch, takes_s: float
) -> None:
    """A straggler reports for the wrong round: it is dropped, and its site is asked anew.

    After securefederatedai/openfederatedlearning pull request #441 and alibaba/FederatedScope
    pull request #36.
    """
    slow = Hospital(takes_s=takes_s)
    run = consortium(monkeypatch, TIMEOUT_S, a=slow, b=Hospital(takes_s=2.0))
    assert run.ask(n_needed=1)[0]["a"] == "R05"
    slow.takes_s = 5.0
    while (codes := run.ask(n_needed=1)[0])["a"] == "R05":
        assert run.grid.now < TIMEOUT_S + takes_s + 20.0
    assert codes == {"a": "ok", "b": "ok"}
    assert run.grid.now > takes_s


def test_a_client_that_trains_long_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long training sends no message: the site is waited for to the deadline all the same.

    After NVIDIA/NVFlare pull request #2484.
    """
    run = consortium(monkeypatch, 3600.0, a=Hospital(takes_s=3500.0), b=Hospital())
    assert run.ask(n_needed=1)[0] == {"a": "ok", "b": "ok"}


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_dead_server_is_not_shown_as_running(tmp_path: Path, is_alive: bool) -> None:
    """What a process last wrote outlives it; its lock does not.

    After NVIDIA/NVFlare issue #5220.
    """
    home = ServerHome(tmp_path)
    home.state.mkdir()
    (home.state / "sites-seen.json").write_text(json.dumps({"a": {"online": True}}))
    number = hold(home)
    if not is_alive:
        os.close(number)
    presence = read_presence(home)
    assert presence.is_server_running is is_alive
    assert presence.of("a")[0] is (True if is_alive else None)
    with (home.state / LOCK).open() as file:
        if not is_alive:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the next server gets it


def update(n_examples: int, n_subjects: int) -> Update:
    """Return an update that claims so many examples and patients."""
    return Update("a", {"w": torch.zeros(1)}, n_examples, n_subjects)


@pytest.mark.parametrize(
    ("n_examples", "n_subjects", "n_most", "code"),
    [
        pytest.param(6200, 40, {"n_subjects": 40}, "", id="155 slices of each of 40 patients"),
        pytest.param(6200, 41, {"n_subjects": 40}, "R42", id="one patient too many"),
        pytest.param(40 * MOST_EXAMPLES + 1, 40, {"n_subjects": 40}, "R42", id="too many slices"),
        pytest.param(6200, 40, {"n_examples": 400}, "R42", id="400 taken for patients"),
        pytest.param(6200, 40, {"n_examples": 6200}, "", id="as many slices as declared"),
        pytest.param(10**6, 10**4, {}, "", id="nothing declared"),
    ],
)
def test_what_a_site_declared_counts_patients(
    n_examples: int, n_subjects: int, n_most: dict[str, int], code: str
) -> None:
    """Weights follow what sites say of themselves: that is bounded, in units that people know."""
    shared = {"w": torch.zeros(1)}
    bounds = replace(Bounds(frozenset("w")), **n_most)  # type: ignore[arg-type]  # counts alone
    if not code:
        check_update(update(n_examples, n_subjects), shared, bounds)
        return
    with pytest.raises(RoundError, match=r"fedmri server limit a --max-.*\[R42\]"):
        check_update(update(n_examples, n_subjects), shared, bounds)


def test_a_limit_changes_without_a_new_enrolment(tmp_path: Path) -> None:
    """The remedy that the message names is one that works."""
    home = ServerHome(tmp_path)
    home.settings_file.write_text("names: [localhost]\n")
    home.write_sites([EnrolledSite("a", "key", "2026-01-01", max_examples=400)])
    limit(home, "a", max_subjects=50, max_examples=0)
    [site] = home.sites().values()
    assert (site.max_examples, site.max_subjects, site.public_key) == (0, 50, "key")


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        ((5, "R42"), (5, "R42")),
        (None, None),
        ((5, "Z99"), None),
        ((-1, "R42"), None),
        ((5, "\x1b[2J"), None),
    ],
)
def test_a_site_is_told_that_its_update_was_left_out(
    told: tuple[int, str] | None, heard: tuple[int, str] | None
) -> None:
    """The order carries round and code, and nothing else that a server could write into a log."""
    order = with_notice(content_of(TrainOrder(6, {"w": torch.zeros(1)}, {})), told)
    assert notice_of(order) == heard


def test_a_secure_sum_that_fails_names_who_is_missing(tmp_path: Path) -> None:
    """Too few sites at a step: the message says which, and why."""
    from fedmri.clients.training.protection.secure import simulated_key
    from fedmri.secagg.masks import ssh_text

    keys = {site: ssh_text(simulated_key(site).public_key()) for site in "abc"}

    def ask(kind: str, content: object, sites: object, n_needed: int) -> list[Answer]:
        assert n_needed == 2
        return [Answer("a", None, "P11"), Answer("b", None, "R05"), Answer("c", None, "P11")]

    sums = SecureSums(Roll("plan", keys), tmp_path, lambda *given: iter(ask(*given)))
    left_out: dict[str, str] = {}
    with pytest.raises(PrivacyError, match=r"missing: a \(P11\), b \(R05\), c \(P11\).*\[P51\]"):
        sums.total(Wanted(1, {}, lambda masking, there: iter(())), "abc", left_out)
    assert left_out == {"a": "P11", "b": "R05", "c": "P11"}

"""A hospital that says no, or not now, and people there who are told what happens."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, RecordDict

from fedmri.clients.consent.approval import refuse_unapproved, seen_plan, status_of
from fedmri.clients.consent.hours import Hours, refuse_other_hours
from fedmri.clients.consent.refusal import AGAIN
from fedmri.clients.egress.ledger import entries
from fedmri.clients.process.home import ClientHome
from fedmri.clients.process.messages import messages
from fedmri.clients.process.standing import heed
from fedmri.errors import ConfigError, PrivacyError, UsageError
from fedmri.wire import is_secure_step, reason_of
from tests.clients.test_commands import client
from tests.clients.test_worker import Ask, ask, content, signed  # noqa: F401  # fixtures

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr's
RUN, REASON = "brain", "our ethics board | meets in June\x1b[2J"


@pytest.fixture
def asked(ask: Ask, home: ClientHome) -> Callable[[str], str]:  # noqa: F811  # the fixture
    """Return a function that sets a line of site.yaml, sends an order and returns the answer."""
    plain = home.settings_file.read_text().replace("is_approval_automatic: true", "tasks: []")

    def answered(setting: str = "") -> str:
        home.settings_file.write_text(f"{plain}{setting}\n")
        reply = ask()
        return str(reply.error.reason) if reply.has_error() else "ok"

    return answered


def test_a_refusal_holds_until_it_is_taken_back(
    asked: Callable[[str], str], home: ClientHome
) -> None:
    """The plan's approval does not outweigh it; approving anew does, and has the server told."""
    assert asked("") == "privacy error P11"
    (plan,) = {line["plan"] for line in entries(home.ledger)}
    client(home, "approve", plan, "--yes")
    assert client(home, "refuse", RUN, "--reason", REASON).exit_code == 0
    assert asked("") == "privacy error P18"
    told = asked("  is_reason_told: true")
    assert told == "our ethics board | meets in June?[2J | privacy error P18"
    assert reason_of(told) == "our ethics board | meets in June?[2J"
    assert list(entries(home.ledger))[-1]["what"] == [told]
    fresh = ClientHome(home.folder)
    assert "refused by people here: run brain" in status_of(fresh, seen_plan(fresh, plan))
    assert not (home.folder / AGAIN).exists()
    client(home, "approve", plan, "--yes")
    assert (home.folder / AGAIN).exists()
    refuse_unapproved(fresh, seen_plan(fresh, plan), RUN)
    with pytest.raises(PrivacyError, match=r"\[P15\]"):  # one approval is one run, as before
        refuse_unapproved(fresh, seen_plan(fresh, plan), "another")


def test_a_run_that_nobody_asked_for_cannot_be_refused(home: ClientHome) -> None:
    """A mistyped name is no refusal of anything."""
    result = client(home, "refuse", "brian", "--reason", "no")
    assert isinstance(result.exception, UsageError)
    assert result.exception.code == "U33"


def test_an_order_outside_of_the_hours_waits(asked: Callable[[str], str], home: ClientHome) -> None:
    """Its answer is a code that the server asks again after; nothing was prepared or trained."""
    now = dt.datetime.now()  # a local clock
    begin, end = (f"{now + dt.timedelta(hours=n):%H:%M}" for n in (2, 3))
    assert asked(f'  is_approval_automatic: true\ntrain_hours: "{begin}-{end}"') == (
        "privacy error P19"
    )
    assert not home.runs.exists()
    night = dt.datetime(2026, 1, 2, 3, 0)  # a local clock
    refuse_other_hours("19:00-06:00", night)
    with pytest.raises(PrivacyError, match=r"one at 12:00, want one within 19:00-06:00.*\[P19\]"):
        refuse_other_hours("19:00-06:00", night.replace(hour=12))


@pytest.mark.parametrize("text", ["19-6", "19:00-19:00", "24:00-06:00", "19:60-06:00", "at night"])
def test_hours_that_are_none_are_refused(text: str) -> None:
    """A setting that is never or always true is a mistake."""
    with pytest.raises(ConfigError, match=r"train_hours.*19:00-06:00.*\[C01\]"):
        Hours.of(text)


def test_a_secure_sum_is_brought_to_its_end() -> None:
    """Its steps are told from the orders that take long."""
    kinds = {"secure-step": True, "train": False}
    for kind, is_step in kinds.items():
        order = RecordDict({"order": ConfigRecord({"json": json.dumps({"kind": kind})})})
        assert is_secure_step(order) is is_step


def test_people_are_told_once_by_their_own_command(home: ClientHome, tmp_path: Path) -> None:
    """The command gets the text as one word, whatever is in it; a broken command ends nothing."""
    told, code = tmp_path / "told.txt", "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"
    command = json.dumps(f'{sys.executable} -c "{code}" {told}')
    with home.settings_file.open("a") as file:
        file.write(f"notify: {command}\n")
    (home.folder / "state").mkdir()
    for round_index in (3, 3, 4, 5):  # left out again for the same reason: no news
        heed(ClientHome(home.folder), "a; rm -r ~", (round_index, "R42"))
    said = told.read_text()
    assert said.startswith("The server left round 3 of run a; rm -r ~ from here out: a site claims")
    assert said.count("The server left") == 1
    home.settings_file.write_text(home.settings_file.read_text().replace(command, "/nowhere"))
    heed(ClientHome(home.folder), "b", (1, "R04"))
    assert [one.about for one in messages(home)] == [
        "left out a; rm -r ~ 3 R42",
        "left out b 1 R04",
    ]

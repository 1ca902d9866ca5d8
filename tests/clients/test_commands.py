"""The commands with which a site looks at plans and at what left it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import fedmri.commands.client.site  # noqa: F401  # it registers the commands
from fedmri.clients.consent.approval import Consent, consent, keep_seen, refuse_unapproved
from fedmri.clients.egress.ledger import Egress, Ledger
from fedmri.clients.process.home import ClientHome
from fedmri.commands.apps import client_app
from fedmri.config import as_yaml, load
from fedmri.errors import DataError, FedmriError, PrivacyError
from fedmri.plan import Plan
from fedmri.tasks.kinds.classification import Classification
from tests.clients.conftest import Sign


def client(home: ClientHome, *words: str, typed: str = "") -> Result:
    """Run a command of ``fedmri client`` in a site's folder."""
    result = CliRunner().invoke(client_app, [*words, "--dir", str(home.folder)], input=typed)
    if result.exception and not isinstance(result.exception, SystemExit | FedmriError):
        raise result.exception
    return result


def signed_file(sign: Sign, plan: Plan, folder: Path) -> str:
    """Return the path of a signed plan."""
    path = folder / "signed.json"
    path.write_text(sign(plan).to_json())
    return str(path)


def test_data_that_suit_a_plan_pass_the_check(
    home: ClientHome, sign: Sign, plan: Plan, tmp_path: Path
) -> None:
    """Exit 0, how many patients take which part, and who was left out in a file."""
    path = signed_file(sign, plan, tmp_path)
    home.settings_file.write_text(
        f"{home.settings_file.read_text()}policy:\n  min_subjects_train: 2\n"
    )
    result = client(home, "check", path, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    assert said["violations"] == []
    assert sum(said["subjects"].values()) == said["used"]["site02"][0] > 0
    assert (home.folder / "manifest.tsv").exists()


def test_a_plan_in_yaml_can_be_checked_before_joining(home: ClientHome, tmp_path: Path) -> None:
    """A hospital tries a plan that somebody mailed, without an enrolment and without a key."""
    home.consortium_file.unlink()
    path = tmp_path / "plan.yaml"
    path.write_text(as_yaml(load(["experiment=smoke"])))
    strict = "policy:\n  max_rounds: 1\n"
    home.settings_file.write_text(home.settings_file.read_text() + strict)
    result = client(home, "check", str(path))
    assert isinstance(result.exception, PrivacyError)
    assert result.exception.code == "P10"
    assert "rounds are more than 1 (policy.max_rounds)" in result.output


def test_data_that_do_not_suit_a_plan_fail_the_check(
    home: ClientHome, sign: Sign, plan: Plan, tmp_path: Path
) -> None:
    """A column that the site's table does not have is told before anything is joined."""
    target = Classification("grade", ("mass", "spots", "wedge"))
    result = client(home, "check", signed_file(sign, replace(plan, target=target), tmp_path))
    assert isinstance(result.exception, DataError)
    assert result.exception.code == "D01"
    assert "no column 'grade'" in str(result.exception)


def test_a_plan_is_listed_approved_and_run(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """It waits, is shown, and with a yes it may run; nothing else was approved."""
    assert "no plan yet" in client(home, "plans").output
    signed = sign(plan)
    keep_seen(home, signed)
    short = signed.sha256[:12]
    assert client(home, "plans").output == f"{short}  waits for approval\n"
    result = client(home, "approve", short, typed="y\n")
    assert "classification of lesion" in result.output
    assert result.exit_code == 0
    refuse_unapproved(home, signed, "first")
    (said,) = json.loads(client(home, "plans", "--json").output)
    assert said["plan"] == signed.sha256
    assert said["status"].startswith("approved 20")


def test_a_plan_is_withdrawn(home: ClientHome, sign: Sign, plan: Plan) -> None:
    """The command says what it does, and what it cannot."""
    signed = sign(plan)
    keep_seen(home, signed)
    client(home, "approve", signed.sha256, "--yes")
    result = client(home, "withdraw", signed.sha256[:12])
    assert result.exit_code == 0
    assert "no command takes that back" in result.output
    assert "withdrawn 20" in client(home, "plans").output
    assert client(home, "withdraw", signed.sha256[:12]).exit_code != 0


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_approved(
    typed: str, home: ClientHome, sign: Sign, plan: Plan
) -> None:
    """No, nothing and a closed terminal are all a no."""
    signed = sign(plan)
    keep_seen(home, signed)
    assert client(home, "approve", signed.sha256, typed=typed).exit_code == 1
    assert consent(home, signed.sha256) == Consent()


def test_a_plan_beyond_the_limits_cannot_be_approved(
    home: ClientHome, sign: Sign, plan: Plan
) -> None:
    """It is shown with what is wrong, and --yes does not help."""
    home.settings_file.write_text(home.settings_file.read_text() + "policy:\n  max_epsilon: 3\n")
    signed = sign(plan)
    keep_seen(home, signed)
    result = client(home, "approve", signed.sha256, "--yes")
    assert isinstance(result.exception, PrivacyError)
    assert "BEYOND THE LIMITS" in result.output
    assert consent(home, signed.sha256) == Consent()


def test_the_ledger_is_shown_and_verified(home: ClientHome) -> None:
    """Lines for people, JSON for machines, and an exit status for a broken chain."""
    assert "Nothing has left" in client(home, "ledger").output
    for number in range(1, 4):
        entry = Egress("f" * 64, "b\x1b[2J", number, "update", 1000, "e" * 64, ("model: 3 arrays",))
        Ledger(home.ledger).append(entry)
    shown = client(home, "ledger", "--tail", "2").output.splitlines()
    assert len(shown) == 2
    assert "update        1,000 bytes  plan ffffffffffff" in shown[1]
    assert "\x1b" not in shown[1]
    assert [e["n"] for e in json.loads(client(home, "ledger", "--json").output)] == [1, 2, 3]
    assert client(home, "ledger", "--verify").output.startswith("3 entries, an unbroken chain")
    home.ledger.write_bytes(home.ledger.read_bytes().replace(b": 1000,", b": 1001,"))
    broken = client(home, "ledger", "--verify").exception
    assert isinstance(broken, PrivacyError)
    assert broken.code == "P05"

"""The privacy account: no way of losing the ledger resets what patients have spent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from fedmri.clients.egress.ledger import head_file, verify
from fedmri.clients.egress.privacy_ledger import Cap, PrivacyLedger, Spend
from fedmri.clients.process.home import ClientHome
from fedmri.errors import PrivacyError
from tests.conftest import program

FREE, DELTA = Cap(float("inf"), 1e-3), 1e-3


@pytest.fixture
def spent(tmp_path: Path) -> PrivacyLedger:
    """Return an account in two places, of four rounds of two kinds of noise."""
    ledger = PrivacyLedger(tmp_path / "ledger/privacy.jsonl", tmp_path / "keys/account.json")
    for index in range(4):
        noise = 1.0 + index % 2
        ledger.reserve(Spend("data", "run", index + 1, f"update {index}", noise, 0.1, 10), FREE)
        if index == 1:
            (tmp_path / "backup").mkdir()
            for path in (ledger.path, head_file(ledger.path)):
                shutil.copy2(path, tmp_path / "backup")
    return ledger


def lost(ledger: PrivacyLedger) -> None:
    """Move ledger and head away, as the old advice said."""
    ledger.path.unlink()
    head_file(ledger.path).unlink()


def restored(ledger: PrivacyLedger) -> None:
    """Put an old backup with its head in the place of both: the chain is whole."""
    for path in (ledger.path, head_file(ledger.path)):
        shutil.copy2(ledger.path.parents[1] / "backup" / path.name, path)
    verify(ledger.path)


def cut(ledger: PrivacyLedger) -> None:
    """Take the last lines away."""
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text("".join(lines[:2]))


def changed(ledger: PrivacyLedger) -> None:
    """Write less into a line."""
    ledger.path.write_text(ledger.path.read_text().replace('"n_steps": 10', '"n_steps": 1', 1))


WAYS: list[Callable[[PrivacyLedger], None]] = [lost, restored, cut, changed]


@pytest.mark.parametrize("way", WAYS)
def test_spending_does_not_start_again(
    spent: PrivacyLedger, way: Callable[[PrivacyLedger], None]
) -> None:
    """The account is closed until it is renewed, and then holds all that was spent."""
    before = spent.spent(DELTA).epsilon
    way(spent)
    entry = Spend("data", "run", 5, "update 5", 1.0, 0.1, 10)
    with pytest.raises(PrivacyError, match=r"renew-account.*\[P0[56]\]"):
        spent.reserve(entry, FREE)
    spent.renew()
    assert spent.spent(DELTA).epsilon >= before * (1 - 1e-6)
    assert spent.reserve(entry, FREE).epsilon > before
    with pytest.raises(PrivacyError, match=r"\[P31\]"):
        spent.reserve(Spend("d", "r", 6, "6", 1.0, 0.1, 10), Cap(before, DELTA))


def test_a_renewed_account_can_be_renewed_again(spent: PrivacyLedger) -> None:
    """Nothing is counted twice, and no old ledger is written over."""
    before = spent.spent(DELTA).epsilon
    olds = [spent.renew() for _ in range(3)]
    assert spent.spent(DELTA).epsilon == pytest.approx(before)
    assert len(set(olds)) == 3
    assert all(old is not None and old.exists() for old in olds)


def test_an_account_of_before_is_taken_over(tmp_path: Path) -> None:
    """A site that has had a ledger alone goes on, and is in both places from its next round on."""
    path, account = tmp_path / "privacy.jsonl", tmp_path / "account.json"
    PrivacyLedger(path).reserve(Spend("d", "r", 1, "1", 1.0, 0.1, 10), FREE)
    PrivacyLedger(path, account).reserve(Spend("d", "r", 2, "2", 1.0, 0.1, 10), FREE)
    path.unlink()
    head_file(path).unlink()
    with pytest.raises(PrivacyError, match=r"found 0 steps.*want the 20.*\[P06\]"):
        PrivacyLedger(path, account).spent(DELTA)


def test_the_command_renews(tmp_path: Path) -> None:
    """It says where the old ledger lies, and that nothing is forgotten."""
    (tmp_path / "site.yaml").write_text("data: {}\n")
    home = ClientHome(tmp_path)
    ledger = PrivacyLedger(home.privacy_ledger, home.privacy_account)
    ledger.reserve(Spend("d", "r", 1, "1", 1.0, 0.1, 10), FREE)
    before = ledger.spent(DELTA).epsilon
    home.privacy_ledger.write_text("")
    done = CliRunner().invoke(program(), ["client", "renew-account", "--dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "holds what was spent before" in done.output
    assert ledger.spent(DELTA).epsilon == pytest.approx(before)

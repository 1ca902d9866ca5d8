"""The privacy ledger: everything composes, nothing leaves beyond the cap."""

from __future__ import annotations

import math
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from fedmri.clients.egress.privacy_ledger import Cap, PrivacyLedger, Spend
from fedmri.clients.training.protection.private import Guard
from fedmri.errors import PrivacyError
from fedmri.privacy.accounting import Steps, spent
from fedmri.privacy.settings import PrivacyConfig

DELTA = 1e-5
FREE = Cap(math.inf, DELTA)


def entry(round_index: int, run: str = "first", **more: object) -> Spend:
    """Return a round of twenty steps at noise 1.2; its update is named for run and round."""
    spend = Spend("data", run, round_index, f"{run}/{round_index}", 1.2, 0.05, 20)
    return replace(spend, **more)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a ledger is to be."""
    return tmp_path / "site" / "privacy.jsonl"


def fill(path: Path, n_rounds: int, run: str = "first", **more: object) -> None:
    """Write rounds, each by an object that knows of nothing but the file."""
    for index in range(1, n_rounds + 1):
        PrivacyLedger(path).reserve(entry(index, run, **more), FREE)


def test_the_account_goes_on_from_round_to_round(path: Path) -> None:
    """Planted bug: accountant reset per round. Ten rounds cost 3.39 and not 1.32 each."""
    fill(path, 10)
    assert abs(PrivacyLedger(path).spent(DELTA).epsilon - 3.39) < 0.02


def test_a_round_is_refused_before_it_exceeds_the_cap(path: Path) -> None:
    """Nothing is written, and the cap still holds afterwards."""
    fill(path, 3)
    ledger = PrivacyLedger(path)
    cap = Cap(ledger.spent(DELTA).epsilon + 0.01, DELTA)
    with pytest.raises(PrivacyError, match=r"one patient at this site.*\[P31\]"):
        ledger.refuse_beyond(entry(4).steps, cap)
    with pytest.raises(PrivacyError, match=r"\[P31\]"):
        ledger.reserve(entry(4), cap)
    assert len(ledger.history()) == 3


def test_a_replayed_round_counts_again_unless_its_bits_are_the_same(path: Path) -> None:
    """After a crash: the same update is free, another one of the same round is not."""
    fill(path, 2)
    ledger = PrivacyLedger(path)
    before = ledger.spent(DELTA)
    assert ledger.reserve(entry(2), FREE) == before
    after = ledger.reserve(entry(2, update="drawn anew"), FREE)
    assert after.epsilon > before.epsilon
    assert len(ledger.history()) == 3


def test_the_same_bits_may_be_sent_again_at_the_cap(path: Path) -> None:
    """They spend nothing, so there is nothing to refuse."""
    cap = Cap(spent([entry(1).steps], DELTA).epsilon, DELTA)
    PrivacyLedger(path).reserve(entry(1), cap)
    PrivacyLedger(path).reserve(entry(1), cap)


def test_a_lost_update_counts(path: Path) -> None:
    """It is on the disk before it leaves; that nobody answered changes nothing."""
    PrivacyLedger(path).reserve(entry(1), FREE)
    assert PrivacyLedger(path).history() == [Steps(1.2, 0.05, 20)]


def test_a_change_of_noise_or_rate_is_a_history_of_both(path: Path) -> None:
    """Not all rounds at the last setting."""
    fill(path, 2)
    fill(path, 2, "second", noise_multiplier=0.9, sample_rate=0.1)
    want = spent([Steps(1.2, 0.05, 40), Steps(0.9, 0.1, 40)], DELTA)
    assert PrivacyLedger(path).spent(DELTA) == want


def test_forks_and_searches_compose(path: Path) -> None:
    """Two runs on the same patients cost as much as one that is as long as both."""
    fill(path, 3, "lr 0.1")
    fill(path, 3, "lr 0.01")
    assert PrivacyLedger(path).spent(DELTA) == spent([Steps(1.2, 0.05, 120)], DELTA)


def test_another_fingerprint_composes_too(path: Path) -> None:
    """A data set with a patient more has almost the same patients."""
    fill(path, 2)
    fill(path, 2, "grown", fingerprint="data and one")
    ledger = PrivacyLedger(path)
    assert ledger.spent(DELTA) == spent([Steps(1.2, 0.05, 80)], DELTA)
    assert ledger.spent(DELTA, "data") == spent([Steps(1.2, 0.05, 40)], DELTA)


def test_a_ledger_that_was_changed_or_cut_lets_nothing_leave(path: Path) -> None:
    """Fewer steps in a line, or a line less."""
    fill(path, 2)
    whole = path.read_text()
    path.write_text(whole.replace('"n_steps": 20', '"n_steps": 1', 1))
    with pytest.raises(PrivacyError, match=r"\[P05\]"):
        PrivacyLedger(path).reserve(entry(3), FREE)
    path.write_text(whole.splitlines(keepends=True)[0])
    with pytest.raises(PrivacyError, match=r"\[P06\]"):
        PrivacyLedger(path).reserve(entry(3), FREE)


def test_a_torn_line_spends_nothing_and_ends_nothing(path: Path) -> None:
    """A power cut in a write: its update never left."""
    fill(path, 1)
    with path.open("ab") as file:
        file.write(b'{"n": 2, "ti')
    PrivacyLedger(path).reserve(entry(2), FREE)
    assert len(PrivacyLedger(path).history()) == 2


def _reserve(path: Path, run: str, cap: Cap) -> bool:
    try:
        PrivacyLedger(path).reserve(entry(1, run), cap)
    except PrivacyError:
        return False
    return True


def test_two_processes_cannot_both_take_what_is_left(path: Path) -> None:
    """A cap for one round, asked for by four at once."""
    cap = Cap(spent([entry(1).steps], DELTA).epsilon + 0.01, DELTA)
    with get_context("fork").Pool(4) as pool:
        taken = pool.starmap(_reserve, [(path, f"run {i}", cap) for i in range(4)])
    assert sum(taken) == 1


def test_a_site_and_its_patients_have_accounts_of_their_own(path: Path) -> None:
    """The same update is written under both units; neither adds to the other's epsilon."""
    ledger, whole = PrivacyLedger(path), Cap(1.0, 1e-3, "dp-site")
    ledger.reserve(entry(1), FREE)
    of_patient = ledger.spent(DELTA)
    release = entry(1, noise_multiplier=8.0, sample_rate=1.0, n_steps=1, kind="dp-site")
    of_site = ledger.reserve(release, whole)
    assert of_site == spent([release.steps], 1e-3) == ledger.spent(1e-3, kind="dp-site")
    assert ledger.spent(DELTA) == of_patient
    loud = replace(release, round=2, update="first/2", noise_multiplier=1.0)
    with pytest.raises(PrivacyError, match=r"privacy of this site as a whole.*\[P31\]"):
        ledger.reserve(loud, whole)


def test_a_plan_does_not_get_around_the_sites_cap_by_a_large_delta(tmp_path: Path) -> None:
    """At a delta of 0.9 a hundred patients would lose next to nothing, whatever is trained."""
    guard = Guard(b"secret", tmp_path / "privacy.jsonl", max_epsilon=1.0)
    usual, lax = (PrivacyConfig(noise_multiplier=1.2, delta=delta) for delta in (0.0, 0.9))
    steps = Steps(1.2, 0.05, 200)
    for config in (usual, lax):
        with pytest.raises(PrivacyError, match=r"delta 0\.001.*\[P31\]"):
            guard.refuse_beyond(steps, config, 100)
    assert guard.delta_of(PrivacyConfig(delta=1e-5), 100) == 1e-5


def test_a_disk_that_is_full_lets_nothing_leave(path: Path) -> None:
    """The lock cannot be made either, and says so like the line itself."""
    path.parent.mkdir()
    path.with_suffix(".lock").mkdir()  # whoever runs this may be allowed to write anywhere
    with pytest.raises(PrivacyError, match=r"privacy\.lock.*\[P07\]"):
        PrivacyLedger(path).reserve(entry(1), FREE)

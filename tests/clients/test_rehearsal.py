"""A plan is rehearsed on a hospital's own data: measured, and without a trace elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import fedmri.commands.client.watch  # noqa: F401  # it registers the commands
from fedmri.clients.process.home import ClientHome
from fedmri.config import as_yaml, load
from fedmri.errors import PrivacyError
from fedmri.plan import Plan
from fedmri.privacy.accounting import Steps, spent
from fedmri.privacy.settings import PrivacyConfig
from fedmri.stages.registry import STAGES
from tests.clients.conftest import Sign
from tests.clients.test_commands import client, signed_file

LIMIT = "policy:\n  min_subjects_train: 2\n"


def test_a_rehearsal_measures_and_leaves_nothing(
    home: ClientHome, sign: Sign, plan: Plan, tmp_path: Path
) -> None:
    """Hours follow from its numbers, epsilon from the plan's noise; no ledger, no run, no state."""
    noised = replace(
        plan, privacy=PrivacyConfig(noise_multiplier=1.5, batch_subjects=2), name="rehearsed"
    )
    noised = replace(noised, stages=(STAGES.made("nyul"),))
    home.settings_file.write_text(f"{home.settings_file.read_text()}{LIMIT}")
    result = client(home, "rehearse", signed_file(sign, noised, tmp_path), "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    rounds, n = plan.rounds.n_rounds, said["subjects"]["train"]
    assert n > 1
    assert said["step_seconds"] > 0
    work = rounds * said["n_steps"] * said["step_seconds"]
    work += said["prepare_seconds"] + said["n_scorings"] * said["score_seconds"]
    assert said["hours"] == pytest.approx(work / 3600)
    steps = Steps(1.5, min(1.0, 2 / n), said["n_steps"] * rounds)
    assert said["epsilon"] == pytest.approx(spent([steps], said["delta"]).epsilon)
    assert said["left_aside"] == ["Nyul"]
    assert said["peak_bytes"] > 50e6
    left = {path.name for path in home.folder.iterdir()}
    assert left <= {"site.yaml", "consortium.json", "cache", "manifest.tsv"}, left


@pytest.mark.slow
def test_a_plan_beyond_the_limits_is_rehearsed_and_refused(
    home: ClientHome, tmp_path: Path, tiny: object
) -> None:
    """People see what it would take, and that their own limits say no."""
    experiment = load(tiny("rounds.n_rounds=3"))  # type: ignore[operator]  # the fixture
    path = tmp_path / "plan.yaml"
    path.write_text(as_yaml(experiment))
    limit = f"{LIMIT}  max_rounds: 2\n"
    home.settings_file.write_text(f"{home.settings_file.read_text()}{limit}")
    result = client(home, "rehearse", str(path))
    assert isinstance(result.exception, PrivacyError)
    assert result.exception.code == "P10"
    assert "Estimated work of this site: 0.00 hours" in result.output
    assert "leaves a round" in result.output

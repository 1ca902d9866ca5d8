"""The key of a site's noise: what must change it does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fedmri.clients.training.protection.private import Guard
from fedmri.privacy.dp_sgd import PrivateSteps
from fedmri.privacy.settings import PrivacyConfig
from fedmri.wire import TrainOrder
from tests.clients.conftest import MakeSite
from tests.clients.test_filtered import received
from tests.simulation.test_study import PRIVATE


def test_another_state_of_the_site_has_other_noise(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site that lost its optimizer trains a round anew: equal noise would show the difference."""
    keys: list[bytes] = []
    steps = Guard.steps

    def noting(guard: Guard, config: PrivacyConfig, order: str, phase: str) -> PrivateSteps:
        found = steps(guard, config, order, phase)
        keys.append(found.key)
        return found

    monkeypatch.setattr(Guard, "steps", noting)
    kept = ("train.is_optimizer_kept=true", "train.momentum=0.9")
    site = make_site(*PRIVATE, *kept)
    for index in (1, 2, 2):
        site.train(TrainOrder(index, received(site)))
    shutil.rmtree(tmp_path / "run" / "state")
    site.train(TrainOrder(2, received(site)))
    assert keys[1] == keys[2]  # asked again: the same bits
    assert len(set(keys)) == 3

"""A regression in the units of all hospitals' patients, from three sums."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmri.agreement.signed_plan import sign_plan
from fedmri.clients.consent.plan_text import describe
from fedmri.clients.consent.policy import SitePolicy
from fedmri.config import load
from fedmri.errors import ConfigError, PrivacyError
from fedmri.harmonize.sums import run
from fedmri.harmonize.target_moments import TargetMoments
from fedmri.tasks.kinds.gaussian_regression import GaussianRegression
from fedmri.tasks.kinds.regression import Regression
from fedmri.trained.model import TrainedModel
from tests.test_signed_plan import key_pair

AGES = [np.array([20.0, 31.0, 77.0]), np.array([45.0]), np.array([])]
SETTINGS = (
    "experiment=age",
    "stages=[target_scale]",
    "target.centre=0",
    "target.scale=1",
    "data.prepare.spacing_mm=12",
    "data.prepare.shape=[16,16,16]",
    "model.width=4",
    "rounds.n_rounds=1",
    "simulation.arms=[federated]",
)


def test_sums_of_sites_give_what_pooled_patients_give() -> None:
    """Whatever was declared, as long as nobody is beyond ``max_error`` scales."""
    pooled = np.concatenate(AGES)
    for declared in (TargetMoments(0, 1, 100), TargetMoments(300, 7, 100)):
        fitted = run(declared, AGES)
        assert np.isclose(fitted["centre"][0], pooled.mean())
        assert np.isclose(fitted["scale"][0], pooled.std())


def test_one_patient_moves_the_sums_by_the_largest_error_at_most() -> None:
    """A slip of a keyboard, an age of 10^6, counts as an age of 100."""
    sums = TargetMoments(0, 1, 100).site_sums(0, [1e6], {})
    assert sums["first"][0] == 100


@pytest.mark.parametrize("kind", [Regression, GaussianRegression])
def test_a_scaled_task_reports_within_the_declared_ranges(kind: type[Regression]) -> None:
    """An output of 0 is the mean; what a site reports is declared before patients are seen."""
    declared = kind("age", centre=0, scale=20, max_error=5)
    for scale in (0.37, 16.3, 1e3):
        task = declared.scaled(43.0, scale)
        assert float(task.predict(torch.zeros(1, task.n_outputs))[0, 0]) == 43
        for name, (low, high) in task.ranges.items():
            assert declared.ranges[name][0] <= low <= high <= declared.ranges[name][1]


def test_the_model_file_answers_in_years(run_tiny: Callable[..., Path], hospitals: Path) -> None:
    """Declared as 0 and 1, a network that has hardly learned answers near the mean of training."""
    folder = run_tiny("scaled", *SETTINGS)
    [place] = folder.glob("arms/federated/seed-0")
    model = TrainedModel.open(place)
    fitted = model.file.harmonized["target_scale"]
    assert 30 < float(fitted["centre"]) < 70
    assert 5 < float(fitted["scale"]) < 30
    readings = [one.reading for one in model.predict(hospitals) if one.reading]
    values = [row[0] for reading in readings for row in reading.predictions]
    assert abs(np.mean(values) - float(fitted["centre"])) < float(fitted["scale"])
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    tested = [one for one in records if one["kind"] == "test"]
    assert all(one["status"] == "ok" and one["metrics"]["mae"] < 40 for one in tested)


def test_a_hospital_reads_which_sums_leave() -> None:
    """Before the rounds three numbers, and after them those of another stage."""
    key, _ = key_pair(1)
    text = describe(sign_plan(load(SETTINGS).plan, key), SitePolicy())
    assert "sum of squares of their target (target_scale): n_subjects (1,), first (1,)" in text
    kept = load(["experiment=lesion_mask", "stages=[kept_parts]"]).plan
    text = describe(sign_plan(kept, key), SitePolicy())
    assert "Dice under six rules (kept_parts): n_subjects (1,), scores (6,)" in text


def test_classes_and_private_patients_have_no_scale() -> None:
    """A class has no mean; the mean of a few patients' ages is not noised."""
    with pytest.raises(ConfigError, match=r"target_scale.*classification.*C03"):
        load(["experiment=smoke", "stages=[target_scale]"])
    with pytest.raises(PrivacyError, match="P32"):
        load([*SETTINGS, "privacy.noise_multiplier=1"])

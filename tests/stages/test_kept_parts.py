"""Small parts of masks are left out by one rule, which validation patients of all sites chose."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from fedmri.config import load
from fedmri.errors import ConfigError, HarmonizeError
from fedmri.harmonize.rule_scores import RuleScores
from fedmri.harmonize.sums import run
from fedmri.stages.answers.kept_parts import KeptParts
from fedmri.stages.stage import Made
from fedmri.tasks.cleaning import RULES, Rule
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.trained.model import TrainedModel

LARGEST = {"rule": torch.tensor([5.0]), "scores": torch.zeros(len(RULES))}
SETTINGS = (
    "experiment=lesion_mask",
    "stages=[kept_parts]",
    "data.prepare.spacing_mm=12",
    "data.prepare.shape=[16,16,16]",
    "model.width=4",
    "rounds.n_rounds=1",
    "rounds.evaluate_every=0",
    "data.split.val=0.3",
    "secagg.is_on=true",
    "simulation.arms=[federated]",
)


def labels() -> np.ndarray:
    """Return a part of eight voxels of each of two classes, and a voxel of the first elsewhere."""
    found = np.zeros((10, 10, 10), np.uint8)
    found[:2, :2, :2], found[4:6, 4:6, 4:6], found[8, 8, 8] = 1, 2, 1
    return found


def test_parts_are_kept_by_their_volume_or_as_the_largest() -> None:
    """A voxel of 5 mm has 0.125 ml; each class is looked at by itself; the input stays."""
    start, spacing = labels(), (5.0, 5.0, 5.0)
    without = start.copy()
    without[8, 8, 8] = 0
    assert (Rule(0.12).cleaned(start, spacing) == start).all()
    assert (Rule(0.13).cleaned(start, spacing) == without).all()
    assert (Rule(is_largest=True).cleaned(start, spacing) == without).all()
    assert not Rule(1.01).cleaned(start, spacing).any()
    assert (start == labels()).all()
    assert RULES[0].cleaned(start, spacing) is start


def test_the_best_rule_over_all_sites_wins_and_the_first_of_equals() -> None:
    """Two patients of one site outvote one of another; a site without patients says nothing."""
    sites = [[[0.2, 0.5, 0.5], [0.2, 0.6, 0.6]], [[0.4, 0.0, 0.0]], []]
    fitted = run(RuleScores(3), sites)
    assert fitted["rule"][0] == 1
    assert np.allclose(fitted["scores"], [0.8 / 3, 1.1 / 3, 1.1 / 3])
    assert run(RuleScores(3), [[]])["rule"][0] == 0


def test_a_rule_that_is_none_is_refused() -> None:
    """A damaged file of a model cannot name a seventh rule."""
    made = Made(load(["experiment=lesion_mask"]).plan)
    fitted = {"rule": np.array([6.0]), "scores": np.zeros(len(RULES))}
    with pytest.raises(HarmonizeError, match=r"kept_parts.*H21"):
        KeptParts().refuse_fitted(made, fitted)


def test_each_rule_is_scored_as_a_task_under_it_scores() -> None:
    """What is chosen on validation patients is what tests and predictions do."""
    task = Segmentation("mask", ("one", "two"))
    predicted = torch.from_numpy(labels())[None]
    truth = predicted.clone()
    truth[0, 8, 8, 8], truth[0, 0, 0, 0] = 0, 0
    [example] = [_Whole()]
    tried = task.trying().read(predicted, truth[:, None], [example]).scores  # type: ignore[list-item]
    for number, score in enumerate(tried.values()):
        ruled = task.under_rule(number).read(predicted, truth[:, None], [example])  # type: ignore[list-item]
        assert score == pytest.approx(ruled.scores["dice"])
    assert tried["rule_5"] > tried["rule_0"]


class _Whole:
    """A volume without a grid of its own."""

    own, target, spacing_mm, scan = None, float("nan"), (5.0, 5.0, 5.0), "s"


def test_a_run_ends_with_a_rule_in_its_file(run_tiny: Callable[..., Path], hospitals: Path) -> None:
    """By masked sums over three hospitals; the file scores as the run did."""
    folder = run_tiny("kept", *SETTINGS)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [one["stage"] for one in records if one["kind"] == "finished"] == ["kept_parts"]
    tested = [one for one in records if one["kind"] == "test"]
    assert [one["status"] for one in tested] == ["ok"] * 3
    [place] = folder.glob("arms/federated/seed-0")
    model = TrainedModel.open(place)
    fitted = model.file.harmonized["kept_parts"]
    assert int(fitted["rule"]) == int(fitted["scores"].argmax())
    ruled = TrainedModel(replace(model.file, harmonized={"kept_parts": LARGEST}))
    [made] = ruled.predict(next(hospitals.rglob("*FLAIR.nii.gz")))
    assert made.mask is not None
    n_parts = ndimage.label(made.mask, np.ones((3, 3, 3)))[1]
    assert n_parts <= 1


def test_a_site_below_its_floor_says_nothing_and_stops_nothing() -> None:
    """Two validation patients where three are the least: zeros, behind which nobody stands."""
    at = _Small()
    sums = KeptParts().own_sums(at, 0, {})  # type: ignore[arg-type]
    assert not any(values.any() for values in sums.values())
    assert KeptParts().counts(at) == (40, 4)  # type: ignore[arg-type]
    at.account.n_least = 2
    assert KeptParts().counts(at) == (2, 2)  # type: ignore[arg-type]


class _Small:
    """A site with four training and two validation patients."""

    def __init__(self) -> None:
        patients = [SimpleNamespace(site="a", subject=name) for name in "xy"]
        self.data = SimpleNamespace(examples=lambda split: patients)
        self.account = SimpleNamespace(n_least=3)
        self.made = Made(load(["experiment=lesion_mask"]).plan)
        self.network, self.patients, self.n_subjects = nn.Identity(), [("a", "p")] * 40, 4


def test_a_class_of_an_image_has_no_parts() -> None:
    """And nothing is chosen without validation patients."""
    with pytest.raises(ConfigError, match=r"kept_parts.*classification.*C03"):
        load(["experiment=smoke", "stages=[kept_parts]"])
    with pytest.raises(ConfigError, match=r"split\.val.*C01"):
        load([*SETTINGS, "data.split.val=0"])

"""Scores of patients against values derived by hand, and against reference values."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedmri.data.batches.site_data import Example
from fedmri.errors import RoundError
from fedmri.tasks.kinds.classification import Classification, majority
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.masks import mask_scores
from fedmri.tasks.task import Case, Reading, Task

LESION = Classification("lesion", ("none", "round", "ring"))
TUMOUR = Segmentation("mask", ("tumour",))
PARTS = Segmentation("mask", ("core", "oedema"))
AGE = Regression("age")
EXAMPLE = Example(
    "north", "sub01", "sub01_0", "test", Path("x"), None, None, math.nan, (True,), (1.0, 1.0, 3.0)
)
MISSED = 374.0


def task(target: Any, **settings: object) -> Task:
    """Return the task of a target."""
    made: Task = replace(target, **settings)
    return made


def class_case(truth: int, *rows: tuple[float, ...], vote: str = "mean") -> Case:
    """Return the case of a patient whose examples have the probabilities given."""
    return task(LESION, vote=vote).case("north", "x", [Reading(len(rows), float(truth), rows)])


def test_a_patient_is_the_mean_over_examples_of_all_scans() -> None:
    """Three slices of one scan and one of another count as four."""
    readings = [
        Reading(3, 1.0, ((0.6, 0.4, 0), (0.6, 0.4, 0), (0.5, 0.5, 0))),
        Reading(1, 1.0, ((0.1, 0.9, 0),)),
    ]
    case = task(LESION).case("north", "sub01", readings)
    assert case.prediction == pytest.approx((0.45, 0.55, 0))
    assert (case.n_examples, case.truth) == (4, 1)
    assert case.scores == {"predicted": 1, "is_correct": 1}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0.6, 0.4), (0.6, 0.4), (0.0, 1.0)], 0),  # two votes to one, though the mean says 1
        ([(0.6, 0.4), (0.1, 0.9)], 1),  # one each: the mean decides, 0.65 to 0.35
        ([(0.9, 0.1), (0.4, 0.6)], 0),
    ],
)
def test_a_majority_wins_and_a_tie_goes_to_the_higher_mean(
    rows: list[tuple[float, float]], expected: int
) -> None:
    """Votes are counted first; probabilities only break ties."""
    assert majority(np.array(rows)) == expected


def test_a_class_outside_the_tie_cannot_win_it() -> None:
    """Class 2 has the highest mean but one vote less than 0 and 1 have."""
    rows = [(0.34, 0.33, 0.33), (0.34, 0.33, 0.33), (0.33, 0.34, 0.33), (0.3, 0.35, 0.35)]
    rows += [(0.0, 0.0, 1.0)]
    probabilities = np.array(rows)
    assert probabilities.mean(axis=0).argmax() == 2
    assert majority(probabilities) == 1


def test_the_vote_of_a_task_is_a_setting() -> None:
    """The same patient, two answers."""
    rows = ((0.6, 0.4, 0.0), (0.6, 0.4, 0.0), (0.0, 1.0, 0.0))
    assert class_case(0, *rows).scores["predicted"] == 1
    assert class_case(0, *rows, vote="majority").scores["predicted"] == 0


def test_classification_metrics_are_those_of_the_table() -> None:
    """Four of class 0 (three found), two of class 1 (one found, one called 0), none of class 2."""
    high, low = (0.7, 0.2, 0.1), (0.2, 0.7, 0.1)
    cases = [class_case(0, high)] * 3 + [
        class_case(0, low),
        class_case(1, low),
        class_case(1, high),
    ]
    values = task(LESION).metrics(cases)
    assert values["accuracy"] == pytest.approx(4 / 6)
    assert values["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert values["macro_f1"] == pytest.approx((2 * 3 / (4 + 4) + 2 * 1 / (2 + 2)) / 2)
    # 8 pairs of a 0 and a 1: right 3 x 1, wrong 1 x 1, ties 3 x 1 + 1 x 1 count half
    assert values["auc"] == pytest.approx((3 + 4 / 2) / 8)
    right, wrong = 0.3**2 + 0.2**2 + 0.1**2, 0.8**2 + 0.7**2 + 0.1**2
    assert values["brier"] == pytest.approx((4 * right + 2 * wrong) / 6)


def test_an_area_of_one_class_alone_is_undefined() -> None:
    """A test set without patients of another class says nothing about telling them apart."""
    values = task(LESION).metrics([class_case(0, (0.7, 0.2, 0.1))] * 2)
    assert math.isnan(values["auc"])
    assert values["balanced_accuracy"] == 1


def reference() -> Path:
    """Return the folder of reference values, or skip."""
    data = os.environ.get("FEDMRI_TEST_DATA")
    folder = Path(data).parent / "oracles" / "evaluation" if data else Path()
    if not data or not folder.is_dir():
        pytest.skip("FEDMRI_TEST_DATA names no data set with reference values beside it")
    return folder


def test_the_area_is_that_of_the_reference() -> None:
    """Mann-Whitney with ties of one half."""
    folder = reference()
    expected = json.loads((folder / "eval_oracle.json").read_text())["delong"]["auc"]
    arrays = np.load(folder / "delong_input.npz")
    names = list(arrays)
    truth = next(arrays[n] for n in names if set(np.unique(arrays[n])) == {0, 1})
    scores = [row for n in names for row in np.atleast_2d(arrays[n]) if len(np.unique(row)) > 2]
    disease = task(Classification("disease", ("no", "yes")))
    for score, area in zip(scores, expected, strict=True):
        share = (score - score.min()) / np.ptp(score)
        cases = [
            Case("north", str(i), 1, float(y), (1 - p, p), {"predicted": 0})
            for i, (y, p) in enumerate(zip(truth.astype(int), share.tolist(), strict=True))
        ]
        assert disease.metrics(cases)["auc"] == pytest.approx(area, abs=1e-9)


def test_regression_metrics_are_those_of_the_errors() -> None:
    """Truths 20, 40, 60 and errors 0, +3, -6: SSE 45, SST 800."""
    age = task(AGE)
    values = [(20.0, 20.0), (40.0, 43.0), (60.0, 54.0)]
    cases = [
        age.case("north", str(i), [Reading(1, truth, ((value,),))])
        for i, (truth, value) in enumerate(values)
    ]
    found = age.metrics(cases)
    assert found["mae"] == pytest.approx(3)
    assert found["rmse"] == pytest.approx(math.sqrt(45 / 3))
    assert found["r2"] == pytest.approx(1 - 45 / 800)
    # deviations -20, 0, 20 and -19, 4, 15: covariance 680, sums of squares 800 and 602
    assert found["pearson"] == pytest.approx(680 / math.sqrt(800 * 602))
    assert found["pearson"] ** 2 >= found["r2"]
    assert [case.scores["absolute_error"] for case in cases] == [0, 3, 6]


def test_a_patients_value_is_the_mean_over_examples() -> None:
    """Two slices of a first scan and one of a second, two years later."""
    readings = [Reading(2, 60.0, ((58.0,), (62.0,))), Reading(1, 62.0, ((66.0,),))]
    case = task(AGE).case("north", "sub01", readings)
    assert (case.truth, case.prediction, case.n_examples) == (61, (62,), 3)


def test_correlation_and_explained_variance_of_one_age_are_undefined() -> None:
    """Patients of the same age explain nothing."""
    case = task(AGE).case("north", "x", [Reading(1, 50.0, ((51.0,),))])
    values = task(AGE).metrics([case, case])
    assert math.isnan(values["r2"])
    assert math.isnan(values["pearson"])
    assert values["mae"] == 1


@pytest.mark.parametrize("target", [LESION, TUMOUR, PARTS, AGE])
def test_without_patients_every_metric_is_undefined(target: Task) -> None:
    """A site without test patients has no score, rather than one of 0."""
    own = task(target)
    values = own.metrics([])
    assert math.isnan(values[own.primary])


def box(*slices: slice) -> torch.Tensor:
    """Return a mask of 8 x 8 x 8 voxels that is true in a box."""
    mask = torch.zeros(8, 8, 8, dtype=torch.bool)
    mask[slices] = True
    return mask


def test_mask_scores_are_those_of_two_boxes() -> None:
    """Two plates one voxel thick, 3 voxels of 2 mm apart, share nothing but their distance."""
    here, there = box(slice(1, 2)), box(slice(4, 5))
    scores = mask_scores(here, there, (2.0, 1.0, 1.0), MISSED)
    assert (scores["dice"], scores["jaccard"], scores["hd95_mm"]) == (0, 0, 6)


def test_dice_and_jaccard_count_voxels() -> None:
    """Boxes of 2 and 3 plates that share one: Dice 2 / 5, Jaccard 1 / 4."""
    scores = mask_scores(box(slice(0, 2)), box(slice(1, 4)), (1.0, 1.0, 1.0), MISSED)
    assert scores["dice"] == pytest.approx(2 / 5)
    assert scores["jaccard"] == pytest.approx(1 / 4)
    assert scores["hd95_mm"] == 2  # the farthest plate of the truth


def test_mask_scores_are_those_of_the_reference() -> None:
    """MONAI's definition in mm; in voxels it would be 3.16."""
    folder = reference()
    expected = json.loads((folder / "hd_oracle.json").read_text())
    arrays = np.load(folder / "hd_input.npz")
    volumes = [torch.from_numpy(arrays[n]).bool() for n in arrays if arrays[n].ndim == 3]
    scores = mask_scores(volumes[0], volumes[1], (1.0, 1.0, 3.0), MISSED)
    assert scores["dice"] == pytest.approx(expected["dice"], rel=1e-12)
    assert scores["jaccard"] == pytest.approx(expected["jaccard"], rel=1e-12)
    assert scores["hd95_mm"] == pytest.approx(expected["HD95_max_of_directed"], rel=1e-6)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (False, False, (1, 1, 0, "n_both_empty")),
        (False, True, (0, 0, MISSED, "n_missed")),
        (True, False, (0, 0, MISSED, "n_false_alarms")),
    ],
)
def test_an_empty_mask_is_scored_and_counted_and_never_left_out(
    predicted: bool, truth: bool, expected: tuple[float, float, float, str]
) -> None:
    """A missed lesion must not drop out of the mean."""
    full, empty = box(slice(2, 4)), box(slice(0, 0))
    masks = (full if predicted else empty, full if truth else empty)
    scores = mask_scores(*masks, (1.0, 1.0, 1.0), MISSED)
    dice, jaccard, distance, count = expected
    counts = {"n_both_empty": 0, "n_missed": 0, "n_false_alarms": 0} | {count: 1}
    assert scores == {"dice": dice, "jaccard": jaccard, "hd95_mm": distance} | counts


def slices(n: int, spacing_mm: tuple[float, ...]) -> list[Example]:
    """Return the slices of one scan."""
    return [replace(EXAMPLE, slice_index=i, spacing_mm=spacing_mm) for i in range(n)]


def test_slices_are_scored_as_the_volume_that_they_make() -> None:
    """Dice over the stack, not the mean over slices; distance across slices in mm."""
    predicted, truth = box(slice(1, 2)).to(torch.uint8), box(slice(4, 5)).long()
    truth[1, 0, 0] = 1
    reading = task(TUMOUR).read(predicted, truth[:, None], slices(8, (2.0, 1.0, 1.0)))
    assert reading.scores["dice"] == pytest.approx(2 * 1 / (64 + 65))
    assert reading.scores["hd95_mm"] == 6
    assert reading.n_examples == 8


def test_slices_that_do_not_say_their_distance_are_refused() -> None:
    """A distance in mm cannot be guessed."""
    labels = torch.ones(3, 8, 8, dtype=torch.uint8)
    with pytest.raises(RoundError, match=r"3 slices: found \(1.0, 1.0\) mm.*\[R22\]"):
        task(TUMOUR).read(labels, labels[:, None].long(), slices(3, (1.0, 1.0)))


@pytest.mark.parametrize("spacing_mm", [(5.0, 2.0, 3.0), (2.0, 3.0)])
def test_a_picture_is_scored_in_its_plane(spacing_mm: tuple[float, ...]) -> None:
    """Lines 2 rows of 2 mm apart, whatever the distance to a next slice."""
    labels = torch.zeros(1, 8, 8, dtype=torch.uint8)
    labels[0, 1], truth = 1, torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    truth[0, 0, 3] = 1
    example = replace(EXAMPLE, spacing_mm=spacing_mm)
    assert task(TUMOUR).read(labels, truth, [example]).scores["hd95_mm"] == 4


def test_several_classes_are_scored_one_by_one_and_in_the_mean() -> None:
    """Core found, oedema missed: Dice 1, 0, and 1/2."""
    predicted, truth = torch.zeros(8, 8, 8), torch.zeros(8, 8, 8)
    predicted[1] = truth[1] = 1
    truth[2] = 2
    reading = task(PARTS).read(predicted[None], truth[None, None], [EXAMPLE])
    assert reading.scores["dice"] == 0.5
    assert (reading.scores["dice_core"], reading.scores["dice_oedema"]) == (1, 0)
    assert reading.scores["hd95_mm"] == MISSED / 2
    assert reading.scores["n_missed"] == 1


def test_scans_are_averaged_to_patients_and_patients_to_the_result() -> None:
    """A patient with two scans weighs as much as one with one; counts add up."""
    own = task(TUMOUR)
    good = {"dice": 1.0, "jaccard": 1.0, "hd95_mm": 0.0, "n_both_empty": 1.0}
    bad = {"dice": 0.0, "jaccard": 0.0, "hd95_mm": MISSED, "n_both_empty": 0.0}
    twice = own.case("north", "a", [Reading(1, math.nan, scores=s) for s in (good, bad)])
    once = own.case("north", "b", [Reading(1, math.nan, scores=good)])
    assert twice.scores["dice"] == 0.5
    values = own.metrics([twice, once])
    assert values["dice"] == 0.75
    assert values["n_both_empty"] == 2


@pytest.mark.parametrize("target", [LESION, TUMOUR, PARTS, AGE])
def test_the_primary_metric_is_among_the_metrics(target: Task) -> None:
    """Arms are compared by a number that is there."""
    own = task(target)
    if target.title == "segmentation":
        labels = torch.ones(1, 4, 4, 4)
        reading = own.read(labels, labels[:, None], [EXAMPLE])
    else:
        width = target.n_outputs
        known = replace(EXAMPLE, target=0.0)
        reading = own.read(torch.full((1, width), 1 / width), torch.zeros(1), [known])
    case = own.case("north", "a", [reading])
    values = own.metrics([case, case])
    assert math.isfinite(values[own.primary])
    assert set(own.metrics([])) <= set(values)
    assert own.caption(reading)


def test_metrics_are_those_of_the_reference_library() -> None:
    """With ties, with classes that nobody has, and with classes that nobody was called."""
    from sklearn import metrics

    draw = np.random.default_rng(0)
    for _ in range(20):
        truth = draw.integers(0, draw.integers(1, 4), 25)
        shares = draw.dirichlet(np.ones(3), 25).round(1)
        called = shares.argmax(axis=1)
        rows = zip(truth, shares, called, strict=True)
        found = LESION.metrics(
            [Case("A", "s", 1, float(t), tuple(p), {"predicted": float(c)}) for t, p, c in rows]
        )
        there = {*truth.tolist()} if len({*truth.tolist()}) > 1 else set()
        areas = [metrics.roc_auc_score(truth == k, shares[:, k]) for k in there]
        f1 = metrics.f1_score(truth, called, average="macro", zero_division=0.0)
        recall = metrics.recall_score(truth, called, labels=np.unique(truth), average="macro")
        wanted = [f1, recall, np.mean(areas) if areas else math.nan]
        names = ("macro_f1", "balanced_accuracy", "auc")
        assert [found[name] for name in names] == pytest.approx(wanted, nan_ok=True, abs=1e-12)
    ages, values = draw.normal(50, 9, 30), draw.normal(50, 9, 30)
    cases = [
        Case("A", "s", 1, t, (v,)) for t, v in zip(ages.tolist(), values.tolist(), strict=True)
    ]
    found = AGE.metrics(cases)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(ages, values))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(ages, values))
    assert found["r2"] == pytest.approx(metrics.r2_score(ages, values))

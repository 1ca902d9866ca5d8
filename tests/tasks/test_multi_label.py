"""Several findings a patient: what is not known of one counts neither for nor against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fedmri.data.batches.split import split_subjects
from fedmri.data.settings import SplitConfig
from fedmri.errors import ConfigError, DataError
from fedmri.reports.statistics.metrics import metric_of, parts_of, weighted_metric
from fedmri.reports.statistics.weighted import panel
from fedmri.tasks.kinds.multi_label import MultiLabel
from fedmri.tasks.task import Case, Reading
from tests.tasks.conftest import scan_of

PAIR = MultiLabel("findings", ("edema", "bleeding"))
LISTED = replace(PAIR, separator=";")
NAN = math.nan


def cases(n: int = 40, seed: int = 0) -> list[Case]:
    """Return patients whose findings show in the probabilities; a quarter of them is unknown."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, (n, 2)).astype(float)
    shares = np.clip(random.normal(0.3 + 0.4 * truth, 0.25), 0.01, 0.99)
    truth[random.random((n, 2)) < 0.25] = NAN
    return [
        PAIR.case("north", f"{i:03d}", [Reading(1, tuple(t), (tuple(p),))])
        for i, (t, p) in enumerate(zip(truth.tolist(), shares.tolist(), strict=True))
    ]


@pytest.mark.parametrize(
    ("task", "cells", "truth"),
    [
        (PAIR, {"edema": "Yes", "bleeding": "0"}, (1, 0)),
        (PAIR, {"edema": "n/a", "bleeding": "1.0"}, (NAN, 1)),
        (PAIR, {"edema": "", "bleeding": "no"}, (NAN, 0)),
        (LISTED, {"findings": "bleeding; edema"}, (1, 1)),
        (LISTED, {"findings": "edema"}, (1, 0)),
        (LISTED, {"findings": "None"}, (0, 0)),
    ],
)
def test_a_cell_says_yes_or_no_or_that_nobody_knows(
    task: MultiLabel, cells: dict[str, str], truth: Sequence[float]
) -> None:
    """An empty cell is never a no."""
    assert task.findings([scan_of(cells)]) == []
    assert task.truth(scan_of(cells)) == pytest.approx(truth, nan_ok=True)


@pytest.mark.parametrize(
    ("task", "cells", "said"),
    [
        (PAIR, {"edema": "maybe", "bleeding": "0"}, "edema is 'maybe', not one of 1, yes"),
        (PAIR, {"edema": "1"}, "no column 'bleeding'"),
        (PAIR, {"edema": "n/a", "bleeding": ""}, "none of the findings is known"),
        (LISTED, {"findings": "edema;odema"}, "lists 'odema', not one of edema, bleeding"),
        (LISTED, {"findings": "n/a"}, "none of the findings is known"),
    ],
)
def test_what_says_neither_leaves_the_scan_out(
    task: MultiLabel, cells: dict[str, str], said: str
) -> None:
    """A word that is not declared is a mistake somewhere, and no guess is made."""
    [finding] = task.findings([scan_of(cells)])
    assert (finding.code, finding.is_excluded) == ("D16", True)
    assert said in finding.reason
    with pytest.raises(DataError, match=r"\[D16\]"):
        task.truth(scan_of(cells))


@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_an_unknown_finding_moves_no_weight(loss: str) -> None:
    """Its output has no gradient, and the loss is that of the known findings alone."""
    task = replace(PAIR, loss=loss)
    outputs = torch.tensor([[0.3, -2.0], [1.0, 0.5]], requires_grad=True)
    target = task.batch_target([(1.0, NAN), (0.0, 1.0)])
    found = task.mean_loss(outputs, target)
    found.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
    assert outputs.grad is not None
    assert outputs.grad[0, 1] == 0
    assert (outputs.grad != 0).sum() == 3
    fixed = outputs.detach()
    alone = replace(task, classes=("edema",)).mean_loss(fixed[:1, :1], target[:1, :1])
    both = task.mean_loss(fixed[1:], target[1:])
    assert float(found.detach()) == pytest.approx(float(alone + both) / 2)
    if loss == "bce":
        assert float(alone) == pytest.approx(math.log(1 + math.exp(-0.3)))


def test_metrics_are_those_of_the_patients_of_whom_it_is_known() -> None:
    """Areas are scikit-learn's; what is predicted for an unknown finding changes nothing."""
    some = cases()
    truth, shares = (np.array(v) for v in ([c.truth for c in some], [c.prediction for c in some]))
    known = ~np.isnan(truth)
    areas = [roc_auc_score(truth[known[:, k], k], shares[known[:, k], k]) for k in range(2)]
    found = PAIR.metrics(some)
    assert found["label_auc"] == pytest.approx(np.mean(areas))
    assert found["label_auc_edema"] == pytest.approx(areas[0])
    hits = [
        ((shares[:, k] >= 0.5) == truth[:, k])[truth[:, k] == value].mean()
        for k in range(2)
        for value in (0, 1)
    ]
    assert found["label_balanced_accuracy"] == pytest.approx(np.mean(hits))
    other = [
        PAIR.case("north", c.subject, [Reading(1, c.truth, (tuple(
            p if not math.isnan(t) else 0.99 - p
            for t, p in zip(c.truth, c.prediction, strict=True)  # type: ignore[arg-type]
        ),))])
        for c in some
    ]  # fmt: skip
    assert PAIR.metrics(other) == pytest.approx(found)


@pytest.mark.parametrize("name", ["label_auc", "label_balanced_accuracy", "label_auc_bleeding"])
def test_each_patient_moves_a_metric_by_its_influence(name: str) -> None:
    """To first order; patients of whom a finding is unknown do not move its area at all."""
    some = cases(200)
    parts = parts_of(metric_of(name, PAIR), panel(some)) or ()
    assert np.mean([part.value for part in parts]) == pytest.approx(PAIR.metrics(some)[name])
    influence = np.mean([part.influence for part in parts], axis=0)
    without = [PAIR.metrics(some[:i] + some[i + 1 :])[name] for i in range(20)]
    moved = np.array([PAIR.metrics(some)[name] - value for value in without]) * (len(some) - 1)
    np.testing.assert_allclose(moved, influence[:20], atol=0.05)
    if name == "label_auc_bleeding":
        is_unknown = np.isnan([c.truth[1] for c in some])  # type: ignore[index]
        assert not influence[is_unknown].any()
        assert influence[~is_unknown].any()


@pytest.mark.parametrize("name", ["label_auc", "label_balanced_accuracy", "label_brier"])
def test_a_weighted_metric_is_that_of_repeated_patients(name: str) -> None:
    """Which is what patients dealt to sites at random are scored by."""
    some = cases()
    counts = np.random.default_rng(1).integers(0, 3, len(some))
    metric = weighted_metric(metric_of(name, PAIR), panel(some))
    assert metric is not None
    repeated = [case for case, n in zip(some, counts, strict=True) for _ in range(n)]
    found = metric(panel(some), counts[None].astype(float))
    assert found[0] == pytest.approx(PAIR.metrics(repeated)[name])


def test_a_finding_that_does_not_vary_or_is_not_known_is_told() -> None:
    """Never there, always there, and known of half of the scans."""
    cells: list[dict[str, str]] = [
        {"edema": "no", "bleeding": "yes"},
        {"edema": "no", "bleeding": "n/a"},
    ]
    scans = [scan_of(one, f"sub-{i}") for i, one in enumerate(cells)]
    found = PAIR.site_findings("north", scans, [frozenset()] * 2)
    assert [(f.code, f.is_excluded) for f in found] == [
        ("D23", False), ("D77", False), ("D78", False),
    ]  # fmt: skip
    assert "bleeding is not known of 1 of 2 scans" in found[2].reason


def test_patients_are_split_by_their_findings() -> None:
    """Three patients with both findings among thirty without: every side has one of them."""
    both, neither = {"edema": "1", "bleeding": "1"}, {"edema": "0", "bleeding": "0"}
    scans = [scan_of(both if i < 3 else neither, f"sub-{i:02d}") for i in range(33)]
    sides = split_subjects(scans, PAIR, SplitConfig(), 0)
    assert {sides[f"sub-{i:02d}"] for i in range(3)} == {"train", "val", "test"}


def test_the_guess_without_an_image_counts_what_is_known() -> None:
    """Two of three have the one; nobody knows the other."""
    assert PAIR.guess([(1.0, NAN), (1.0, NAN), (0.0, NAN)]) == pytest.approx((2 / 3, 0.5))


def test_a_prediction_that_is_no_number_is_as_wrong_as_can_be() -> None:
    """So no hospital's report hides it."""
    case = PAIR.case("a", "b", [Reading(1, (1.0, NAN), ((NAN, NAN),))])
    [within] = PAIR.clipped([case])
    assert within.prediction == (0.0, 0.5)
    assert within.scores["label_brier"] == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"classes": ()},
        {"classes": ("a", "a")},
        {"present": ("1",), "absent": ("1",)},
        {"absent": ()},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any]) -> None:
    """Before any table is read."""
    with pytest.raises(ConfigError, match=r"\[C01\]"):
        replace(PAIR, **settings)

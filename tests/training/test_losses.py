"""Losses against values derived by hand, and how they relate."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedmri.errors import ConfigError
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.multi_label import MultiLabel
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.losses import balanced_weights, boundary_loss, class_loss, mask_loss

LOSSES = {
    kind.title: kind.losses for kind in (Classification, MultiLabel, Segmentation, Regression)
}
TARGETS: dict[str, Any] = {
    "classification": Classification("lesion", ("none", "round")),
    "multi-label classification": MultiLabel("findings", ("none", "round")),
    "segmentation": Segmentation("mask", ("tumour",)),
    "regression": Regression("age"),
}
LOGITS = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
"""Probabilities of 3/4 and 1/4, and of 1/2 and 1/2."""


def loss_of(kind: str, name: str, outputs: torch.Tensor, target: torch.Tensor) -> float:
    """Return the loss of a task."""
    return float(replace(TARGETS[kind], loss=name).mean_loss(outputs, target))


def test_cross_entropy_is_the_mean_surprise() -> None:
    """-log 3/4 and -log 1/2, halved."""
    expected = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    value = loss_of("classification", "ce", LOGITS, torch.tensor([0, 1]))
    assert value == pytest.approx(expected)


def test_cross_entropy_of_a_mixed_target_mixes_the_surprises() -> None:
    """A mixup of 0.7 and 0.3 pays 0.7 and 0.3 of what the classes would."""
    expected = (-0.7 * math.log(3 / 4) - 0.3 * math.log(1 / 4) - math.log(1 / 2)) / 2
    target = torch.tensor([[0.7, 0.3], [0.0, 1.0]])
    assert loss_of("classification", "ce", LOGITS, target) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["ce", "focal"])
def test_a_target_that_is_not_mixed_costs_the_same_in_both_forms(name: str) -> None:
    """Indices and rows of 0 and 1 say the same."""
    target = torch.tensor([0, 1])
    rows = torch.eye(2)[target]
    index_loss = loss_of("classification", name, LOGITS, target)
    assert index_loss == pytest.approx(loss_of("classification", name, LOGITS, rows))


def test_focal_loss_weighs_each_surprise_by_what_is_left_to_learn() -> None:
    """(1 - p) squared: 1/16 of -log 3/4 and 1/4 of -log 1/2."""
    expected = (-math.log(3 / 4) / 16 - math.log(1 / 2) / 4) / 2
    value = loss_of("classification", "focal", LOGITS, torch.tensor([0, 1]))
    assert value == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(), (4, 5), (3, 4, 5)])
def test_focal_loss_without_focus_is_cross_entropy(shape: tuple[int, ...]) -> None:
    """With gamma 0 the two are one, for images and for voxels."""
    outputs, target = torch.randn(2, 3, *shape), torch.randint(0, 3, (2, *shape))
    focal, plain = class_loss("focal", gamma=0), class_loss("ce")
    torch.testing.assert_close(focal(outputs, target), plain(outputs, target))


def test_balanced_weights_give_each_class_that_is_there_the_same_say() -> None:
    """12 examples, two classes there: 6 divided by 8 and by 4; the absent one gets 0."""
    weights = balanced_weights([8, 0, 4])
    assert weights == (0.75, 0, 1.5)
    assert sum(w * n for w, n in zip(weights, (8, 0, 4), strict=True)) == 12


def test_weighted_cross_entropy_weighs_a_batch_of_one_class_too() -> None:
    """Divided by examples and not by weights: a lone rare example still counts 1.5 times."""
    loss = class_loss("weighted_ce", weights=(0.5, 1.5))
    one = loss(LOGITS[:1], torch.tensor([1]))
    assert float(one) == pytest.approx(1.5 * -math.log(1 / 4))


def test_label_smoothing_shares_a_part_of_the_target() -> None:
    """0.2 over two classes: 0.9 and 0.1."""
    expected = -0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4)
    loss = class_loss("ce", smoothing=0.2)
    assert float(loss(LOGITS[:1], torch.tensor([0]))) == pytest.approx(expected)


def masks() -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits for a tumour probability of 3/4, 3/4, 1/4, 1/4 and a truth of 1, 0, 1, 0."""
    odds = torch.tensor([3.0, 3.0, 1 / 3, 1 / 3]).log().reshape(1, 1, 2, 2)
    return torch.cat([torch.zeros_like(odds), odds], 1), torch.tensor([[[[1, 0], [1, 0]]]])


def test_dice_loss_is_one_minus_the_overlap_of_probabilities() -> None:
    """Overlap 3/4 + 1/4 = 1, sums 2 and 2: Dice 2 / 4, loss 1/2."""
    assert loss_of("segmentation", "dice", *masks()) == pytest.approx(0.5, abs=1e-4)


def test_dice_and_cross_entropy_add_up() -> None:
    """1/2, and the mean of -log 3/4 and -log 1/4 twice each."""
    cross_entropy = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    value = loss_of("segmentation", "auto", *masks())
    assert value == pytest.approx(0.5 + cross_entropy, abs=1e-4)
    assert loss_of("segmentation", "ce", *masks()) == pytest.approx(cross_entropy)


def test_tversky_loss_weighs_false_positives_and_negatives() -> None:
    """True 1, false positives 3/4 + 1/4 = 1, false negatives 1/4 + 3/4 = 1."""
    outputs, target = masks()
    target[0, 0, 1, 0] = 0  # now true 3/4, false positives 5/4, false negatives 1/4
    loss = mask_loss("tversky", alpha=0.3)
    expected = 1 - 0.75 / (0.75 + 0.3 * 1.25 + 0.7 * 0.25)
    assert float(loss(outputs, target)) == pytest.approx(expected, abs=1e-4)


def test_the_boundary_loss_weighs_wrong_voxels_by_their_distance() -> None:
    """Right voxels cost nothing. One 2 voxels outside costs 2, one at the middle of 3 costs 1."""
    target = torch.zeros(1, 1, 1, 8, dtype=torch.int64)
    target[..., 1:4] = 1

    def cost(*wrong: int) -> float:
        found = target[:, 0].clone()
        found[..., list(wrong)] = 1 - found[..., list(wrong)]
        logits = 50.0 * torch.stack([1 - found, found], 1).float()
        plain, both = (replace(TARGETS["segmentation"], boundary=w) for w in (0.0, 0.5))
        added = both.mean_loss(logits, target) - plain.mean_loss(logits, target)
        return float(added) / 0.5 * target.numel()

    assert cost() == pytest.approx(0)
    assert (cost(5), cost(2), cost(1)) == pytest.approx((2, 1, 0), abs=1e-5)
    empty = torch.zeros_like(target)
    assert float(boundary_loss(torch.randn(1, 2, 1, 8), empty)) == 0


def test_overlap_is_that_of_the_batch() -> None:
    """A slice without tumour does not pull the loss to 1: it adds false positives to the batch."""
    outputs, target = masks()
    empty = torch.zeros_like(target)
    both = loss_of("segmentation", "dice", outputs.repeat(2, 1, 1, 1), torch.cat([target, empty]))
    assert both == pytest.approx(1 - 2 * 1 / (4 + 2), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"), [("mae", 1.25), ("mse", 2.125), ("huber", (0.125 + 1.5) / 2)]
)
def test_regression_losses_are_those_of_the_errors(name: str, expected: float) -> None:
    """Errors of 1/2 and 2; Huber is half the square up to 1 and |e| - 1/2 beyond."""
    outputs, target = torch.tensor([[1.5], [0.0]]), torch.tensor([1.0, 2.0])
    assert loss_of("regression", name, outputs, target) == pytest.approx(expected)


def test_a_regression_target_is_learned_in_standard_units() -> None:
    """An answer of 1 stands for 50 + 20 years, and half a unit of error costs half."""
    task = replace(TARGETS["regression"], centre=50, scale=20)
    outputs = torch.tensor([[1.0]])
    assert task.predict(outputs).tolist() == [[70.0]]
    assert float(task.mean_loss(outputs, torch.tensor([60.0]))) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in LOSSES.items() for name in names]
)
def test_every_loss_has_a_finite_gradient_even_where_nothing_is_to_be_found(
    kind: str, name: str
) -> None:
    """A batch of empty masks, or of one class, is a normal batch."""
    if kind == "segmentation":
        outputs, target = torch.randn(2, 2, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.int64)
    elif kind == "classification":
        outputs, target = torch.randn(2, 2), torch.zeros(2, dtype=torch.int64)
    elif kind == "multi-label classification":
        outputs, target = torch.randn(2, 2), torch.zeros(2, 2)
    else:
        outputs, target = torch.randn(2, 1), torch.zeros(2)
    outputs.requires_grad_()
    replace(TARGETS[kind], loss=name).mean_loss(outputs, target).backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert outputs.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("kind", "name"), [("regression", "ce"), ("classification", "dice"), ("segmentation", "mae")]
)
def test_a_loss_of_another_task_is_answered_with_the_tasks_own(kind: str, name: str) -> None:
    """The message lists what would do."""
    with pytest.raises(ConfigError, match=rf"one of {', '.join(LOSSES[kind])}. \[C22\]"):
        replace(TARGETS[kind], loss=name)


BATCHES: dict[str, tuple[torch.Tensor, torch.Tensor]] = {
    "classification": (LOGITS, torch.tensor([0, 1])),
    "multi-label classification": (LOGITS, torch.tensor([[0.0, 1.0], [1.0, math.nan]])),
    "segmentation": (torch.linspace(-1, 1, 32).view(1, 2, 4, 4), torch.eye(4)[None, None].long()),
    "regression": (torch.tensor([[0.5]]), torch.tensor([50.0])),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(k, name) for k, names in LOSSES.items() for name in names]
)
def test_a_task_that_was_used_goes_to_another_process(kind: str, name: str) -> None:
    """It keeps its loss, and the loss travels with it."""
    settings = {"boundary": 0.5} if kind == "segmentation" else {}
    task = replace(TARGETS[kind], loss=name, **settings)
    before = task.mean_loss(*BATCHES[kind])
    assert torch.equal(pickle.loads(pickle.dumps(task)).mean_loss(*BATCHES[kind]), before)

"""Losses by kind of task and name; each returns the mean over a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.losses.dice import DiceCELoss, DiceLoss
from monai.losses.focal_loss import FocalLoss
from monai.losses.tversky import TverskyLoss
from torch.nn import functional

from fedmri.errors import ConfigError
from fedmri.round import TaskKind
from fedmri.training.settings import TaskConfig

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Raw outputs and ``Batch.target`` to the mean loss of the batch, in float32."""

LOSSES: dict[TaskKind, tuple[str, ...]] = {
    "classification": ("ce", "weighted_ce", "focal"),
    "segmentation": ("dice_ce", "dice", "tversky", "ce", "focal"),
    "regression": ("mae", "huber", "mse"),
}
"""Losses of a kind of task; ``auto`` is the first."""


def loss_name(kind: TaskKind, config: TaskConfig) -> str:
    """Return the loss of a task, ``auto`` resolved; raise ConfigError C22 where it has none."""
    names = LOSSES[kind]
    if config.loss == "auto":
        return names[0]
    if config.loss not in names:
        want = f"a loss for {kind}"
        fix = f"set task.loss to auto or one of {', '.join(names)}"
        raise ConfigError("C22", "setting task.loss", found=config.loss, want=want, fix=fix)
    return config.loss


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Return weights of classes under which each class that is there counts the same.

    ``n / (n_classes_present * count)``: their mean over the counted examples is 1. A class
    without examples gets 0, which nothing is multiplied by.
    """
    n_present = sum(count > 0 for count in counts)
    n_examples = sum(counts)
    return tuple(n_examples / (n_present * count) if count else 0.0 for count in counts)


def class_loss(name: str, config: TaskConfig, weights: Sequence[float] = ()) -> Loss:
    """Return a loss of class logits ``(B, K, ...)``; targets are indices or probabilities.

    Weighted cross entropy divides by the examples and not by their weights, so that a batch of one
    class alone is weighted too. Focal loss with ``focal_gamma`` 0 is cross entropy.

    Args:
        name: ``ce``, ``weighted_ce`` or ``focal``.
        config: Label smoothing and focusing exponent.
        weights: Weight of each class; empty weighs all the same.

    Source:
        Lin, Goyal, Girshick, He and Dollar 2017, Focal loss, arXiv:1708.02002.
    """
    if name == "focal":
        focal = FocalLoss(use_softmax=True, gamma=config.focal_gamma, reduction="none")
        return lambda outputs, target: focal(outputs, _one_hot(outputs, target)).sum(1).mean()
    weight = torch.tensor(weights) if weights else None

    def cross_entropy(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        total = functional.cross_entropy(
            outputs,
            target,
            weight=None if weight is None else weight.to(outputs.device),
            reduction="sum",
            label_smoothing=config.label_smoothing,
        )
        return total / (outputs.numel() / outputs.shape[1])

    return cross_entropy


def mask_loss(name: str, config: TaskConfig) -> Loss:
    """Return a loss of voxel logits ``(B, 1 + K, *shape)`` and label maps ``(B, 1, *shape)``.

    Overlap is that of the whole batch and leaves the background out: a slice without a lesion has
    no overlap of its own to improve.

    Args:
        name: ``dice_ce``, ``dice``, ``tversky``, ``ce`` or ``focal``.
        config: Label smoothing, focusing exponent, weight of false positives.

    Source:
        Milletari, Navab and Ahmadi 2016, V-Net, arXiv:1606.04797. Salehi, Erdogmus and Gholipour
        2017, Tversky loss, arXiv:1706.05721.
    """
    if name in ("ce", "focal"):
        by_voxel = class_loss(name, config)
        return lambda outputs, target: by_voxel(outputs, target[:, 0])
    overlap: dict[str, Any] = {
        "include_background": False,
        "to_onehot_y": True,
        "softmax": True,
        "batch": True,
    }
    if name == "dice":
        return DiceLoss(**overlap)
    if name == "tversky":
        alpha = config.tversky_alpha
        return TverskyLoss(**overlap, alpha=alpha, beta=1 - alpha)
    return DiceCELoss(**overlap, label_smoothing=config.label_smoothing)


def value_loss(name: str) -> Loss:
    """Return the mean absolute, Huber (it bends at 1) or squared loss."""
    losses: dict[str, Loss] = {
        "mae": functional.l1_loss,
        "huber": functional.huber_loss,
        "mse": functional.mse_loss,
    }
    return losses[name]


def _one_hot(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if target.is_floating_point():
        return target
    return functional.one_hot(target, outputs.shape[1]).movedim(-1, 1).to(outputs.dtype)

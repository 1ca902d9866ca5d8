"""Losses by name; each returns the mean over a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Raw outputs and ``Batch.target`` to the mean loss of the batch, in float32.

A task keeps its loss, and goes to other processes with it: so each is a function of this module
with settings filled in, or a module of MONAI.
"""


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Return weights of classes under which each class that is there counts the same.

    ``n / (n_classes_present * count)``: their mean over the counted examples is 1. A class
    without examples gets 0, which nothing is multiplied by.
    """
    n_present = sum(count > 0 for count in counts)
    n_examples = sum(counts)
    return tuple(n_examples / (n_present * count) if count else 0.0 for count in counts)


def class_loss(
    name: str, *, smoothing: float = 0.0, gamma: float = 2.0, weights: Sequence[float] = ()
) -> Loss:
    """Return a loss of class logits ``(B, K, ...)``; targets are indices or probabilities.

    Weighted cross entropy divides by the examples and not by their weights, so that a batch of one
    class alone is weighted too. Focal loss with ``gamma`` 0 is cross entropy.

    Args:
        name: ``ce``, ``weighted_ce`` or ``focal``.
        smoothing: Label smoothing of cross entropy.
        gamma: Focusing exponent.
        weights: Weight of each class; empty weighs all the same.

    Source:
        Lin, Goyal, Girshick, He and Dollar 2017, Focal loss, arXiv:1708.02002.
    """
    if name == "focal":
        from monai.losses.focal_loss import FocalLoss  # MONAI takes seconds to import

        focal = FocalLoss(use_softmax=True, gamma=gamma, reduction="none")
        return partial(_focal, focal)
    return partial(_cross_entropy, torch.tensor(weights) if weights else None, smoothing)


def _focal(focal: Loss, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return focal(outputs, _one_hot(outputs, target)).sum(1).mean()


def _cross_entropy(
    weight: torch.Tensor | None, smoothing: float, outputs: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    total = functional.cross_entropy(
        outputs,
        target,
        weight=None if weight is None else weight.to(outputs.device),
        reduction="sum",
        label_smoothing=smoothing,
    )
    return total / (outputs.numel() / outputs.shape[1])


def mask_loss(
    name: str,
    *,
    smoothing: float = 0.0,
    gamma: float = 2.0,
    alpha: float = 0.3,
    boundary: float = 0.0,
) -> Loss:
    """Return a loss of voxel logits ``(B, 1 + K, *shape)`` and label maps ``(B, 1, *shape)``.

    Overlap is that of the whole batch and leaves the background out: a slice without a lesion has
    no overlap of its own to improve.

    Args:
        name: ``dice_ce``, ``dice``, ``tversky``, ``ce`` or ``focal``.
        smoothing: Label smoothing of cross entropy.
        gamma: Focusing exponent.
        alpha: Weight of false positives in the Tversky loss; the rest goes to false negatives.
        boundary: Weight of ``boundary_loss`` beside it.

    Source:
        Milletari, Navab and Ahmadi 2016, V-Net, arXiv:1606.04797. Salehi, Erdogmus and Gholipour
        2017, Tversky loss, arXiv:1706.05721.
    """
    main = _mask_loss(name, smoothing, gamma, alpha)
    return partial(_with_boundary, main, boundary) if boundary else main


def _mask_loss(name: str, smoothing: float, gamma: float, alpha: float) -> Loss:
    if name in ("ce", "focal"):
        return partial(_by_voxel, class_loss(name, smoothing=smoothing, gamma=gamma))
    from monai.losses.dice import DiceCELoss, DiceLoss
    from monai.losses.tversky import TverskyLoss

    overlap: dict[str, Any] = {
        "include_background": False,
        "to_onehot_y": True,
        "softmax": True,
        "batch": True,
    }
    if name == "dice":
        return DiceLoss(**overlap)
    if name == "tversky":
        return TverskyLoss(**overlap, alpha=alpha, beta=1 - alpha)
    return DiceCELoss(**overlap, label_smoothing=smoothing)


def _by_voxel(loss: Loss, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return loss(outputs, target[:, 0])


def _with_boundary(
    main: Loss, weight: float, outputs: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    return main(outputs, target) + weight * boundary_loss(outputs, target)


def boundary_loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return how far from the boundary of a class its wrong voxels lie, as a mean in voxels.

    The error of each probability counts by its voxel's distance to the class's boundary. The mean
    is over images, classes and voxels. It differs from the paper's loss by what no network changes,
    so that it is never negative. An image without a class, or full of it, has no boundary.

    Args:
        outputs: Logits of background and classes, shape ``(B, 1 + K, *shape)``.
        target: Label maps, shape ``(B, 1, *shape)``.

    Source:
        Kervadec et al. 2021, Boundary loss for highly unbalanced segmentation,
        doi:10.1016/j.media.2020.101851.
    """
    classes = torch.arange(1, outputs.shape[1], device=target.device)
    truth = target == classes.view(1, -1, *[1] * (target.ndim - 2))
    masks = truth.cpu().numpy().reshape(-1, *target.shape[2:])
    distances = torch.from_numpy(np.stack([_distance(mask) for mask in masks]))
    wrong = outputs.softmax(1)[:, 1:] - truth.to(outputs.dtype)
    return (distances.view(truth.shape).to(outputs) * wrong).mean()


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return distances to a mask's boundary in voxels, negative inside and 0 on its rim."""
    if not mask.any() or mask.all():
        return np.zeros(mask.shape, dtype=np.float32)
    inside, outside = (distance_transform_edt(part) for part in (mask, ~mask))
    signed: NDArray[np.float32] = np.where(mask, 1 - inside, outside).astype(np.float32)
    return signed


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


def label_loss(gamma: float) -> Loss:
    """Return binary cross entropy of logits ``(B, K)``; targets are 1, 0 or NaN for unknown.

    What is unknown adds nothing. Each example weighs the same, however much of it is known. With
    ``gamma`` above 0 what is easily told counts less.

    Source:
        Lin, Goyal, Girshick, He and Dollar 2017, Focal loss, arXiv:1708.02002.
    """
    return partial(_known_labels, gamma)


def _known_labels(gamma: float, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    is_known = ~torch.isnan(target)
    wanted = torch.where(is_known, target, 0.0)
    each = functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="none")
    if gamma:
        each = each * (1 - torch.exp(-each)) ** gamma
    total = torch.where(is_known, each, 0.0).sum(1)
    return (total / is_known.sum(1).clamp(min=1)).mean()

"""Example pictures of a site's patients. They never leave the site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fedmri.data.batches.site_data import Example

Plane = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


@dataclass(frozen=True)
class Picture:
    """One plane of a patient's scan.

    Attributes:
        image: Shape ``(H, W)``, float32, as the network saw its first modality.
        truth: Labels, shape ``(H, W)``, uint8; None where no mask is predicted.
        predicted: Predicted labels, likewise.
        subject: Patient.
        caption: What is to be seen, without a name.
    """

    image: Plane
    truth: Plane | None
    predicted: Plane | None
    subject: str
    caption: str


def picture_of(
    images: Sequence[torch.Tensor],
    truths: Sequence[torch.Tensor] | None,
    predictions: Sequence[torch.Tensor] | None,
    *,
    example: Example,
    caption: str,
) -> Picture:
    """Return the most telling plane of a scan.

    That is the plane with most of the labelled voxels, true or else predicted, or the middle one.
    Volumes are cut along their last axis (axial in canonical orientation); planes of volumes are
    turned so that the front is up.

    Args:
        images: Its examples: one volume ``(C, D, H, W)``, or slices ``(C, H, W)`` in order.
        truths: Label maps of the examples, without channels.
        predictions: Predicted label maps.
        example: First of the examples.
        caption: Line to go with it.
    """
    n_per_modality = len(images[0]) // max(1, len(example.present))
    middle = n_per_modality // 2  # of a slice and its neighbours
    planes = _planes([image[middle] for image in images])
    truth = None if truths is None else _planes(truths).to(torch.uint8)
    predicted = None if predictions is None else _planes(predictions).to(torch.uint8)
    index = _telling(truth, predicted, len(planes))
    is_turned = example.slice_index is not None or images[0].ndim == 4
    return Picture(
        _cut(planes, index, is_turned=is_turned),
        None if truth is None else _cut(truth, index, is_turned=is_turned),
        None if predicted is None else _cut(predicted, index, is_turned=is_turned),
        example.subject,
        caption,
    )


def _planes(examples: Sequence[torch.Tensor]) -> torch.Tensor:
    if examples[0].ndim == 3:
        return examples[0].movedim(-1, 0)
    return torch.stack(list(examples))


def _telling(truth: torch.Tensor | None, predicted: torch.Tensor | None, n_planes: int) -> int:
    for labels in (truth, predicted):
        if labels is not None and bool(labels.any()):
            return int((labels > 0).sum(dim=(1, 2)).argmax())
    return n_planes // 2


def _cut(planes: torch.Tensor, index: int, *, is_turned: bool) -> Plane:
    plane = planes[index].numpy()
    return np.rot90(plane).copy() if is_turned else plane.copy()

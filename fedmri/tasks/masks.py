"""Scores of one mask, and of masks together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from fedmri.data.batches.site_data import Example
from fedmri.errors import RoundError
from fedmri.evaluate.scores.masks import hd95_mm
from fedmri.tasks.kinds.segmentation import COUNTS


def stacked(
    labels: torch.Tensor, wanted: torch.Tensor, examples: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor, tuple[float, ...]]:
    """Return predicted and true labels of a scan on the prepared grid, and its voxel size."""
    spacing_mm = stacked_spacing_mm(examples, labels.ndim - 1)
    if len(spacing_mm) < labels.ndim:
        return labels[0], wanted[0], spacing_mm
    return labels, wanted, spacing_mm


def mask_scores(
    predicted: torch.Tensor, truth: torch.Tensor, spacing_mm: Sequence[float], missed_mm: float
) -> dict[str, float]:
    """Score one mask.

    Args:
        predicted: True where the class is predicted, two or three dimensions.
        truth: True where the class is, same shape.
        spacing_mm: Voxel size, one number for each dimension.
        missed_mm: HD95 where one of the masks is empty.

    Returns:
        ``dice``, ``jaccard`` and ``hd95_mm``, and which of the counts applies. HD95 has three
        definitions: this is MONAI's, see ``fedmri.evaluate.scores.masks``.

    Source:
        Zenk et al. 2025, FeTS, doi:10.1038/s41467-025-60466-1 (penalty for empty masks).
    """
    n_predicted, n_truth = int(predicted.sum()), int(truth.sum())
    n_common = int((predicted & truth).sum())
    empty = dict.fromkeys(COUNTS, 0.0)
    if n_predicted == 0 or n_truth == 0:
        is_both = n_predicted == n_truth
        count = "n_both_empty" if is_both else "n_missed" if n_truth else "n_false_alarms"
        score, distance = (1.0, 0.0) if is_both else (0.0, missed_mm)
        return {"dice": score, "jaccard": score, "hd95_mm": distance, **empty, count: 1.0}
    return {
        "dice": 2 * n_common / (n_predicted + n_truth),
        "jaccard": n_common / (n_predicted + n_truth - n_common),
        "hd95_mm": hd95_mm(predicted.cpu().numpy(), truth.cpu().numpy(), spacing_mm),
        **empty,
    }


def combined(scores: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score, over those that have it, and the sum of each count."""
    rows = list(scores)
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {
        name: float(np.sum(column) if name in COUNTS else np.mean(column))
        for name, column in values.items()
    }


def stacked_spacing_mm(examples: Sequence[Example], n_dims: int) -> tuple[float, ...]:
    """Return the voxel size of a scan whose examples are put together.

    Args:
        examples: A scan's examples, in the order of slices.
        n_dims: Spatial dimensions of one example.

    Returns:
        ``n_dims`` numbers for one volume or image, or for a single slice; one more for several
        slices, the distance between slices first.

    Raises:
        RoundError: The distance between slices is not known (R22).
    """
    spacing_mm = examples[0].spacing_mm
    if len(examples) == 1:
        return spacing_mm[-n_dims:]
    if len(spacing_mm) != n_dims + 1:
        what = f"voxel size of {examples[0].scan}, {len(examples)} slices"
        want = f"{n_dims + 1} numbers, the distance between slices first"
        fix = "prepare the data set again"
        raise RoundError("R22", what, found=f"{spacing_mm} mm", want=want, fix=fix)
    return spacing_mm

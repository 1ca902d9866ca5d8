"""Segmentation: overlap and distance of masks, for each patient."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance

from fedmri.data.batches.site_data import Example
from fedmri.errors import RoundError
from fedmri.round import Target
from fedmri.training.losses import Loss, loss_name, mask_loss
from fedmri.training.settings import TaskConfig
from fedmri.training.task import MOST_LOSS, Case, Reading

COUNTS = ("n_both_empty", "n_missed", "n_false_alarms")


@dataclass(frozen=True)
class Segmentation:
    """Predict a label map; slices are put together, and the scan is scored on its own grid.

    Predictions are brought back to the grid of the label file and compared with all of it: a part
    that preparation cropped away counts as missed.

    A class that is empty in truth and prediction has Dice 1 and HD95 0; one that is empty in one
    of them has Dice 0 and HD95 ``missed_hd95_mm``. Both are counted, over scans and classes:
    ``n_both_empty``; ``n_missed`` (nothing predicted); ``n_false_alarms`` (nothing there).
    """

    target: Target
    config: TaskConfig
    primary: str = "dice"
    is_higher_better: bool = True

    def at_site(self, examples: Sequence[Example]) -> Segmentation:
        """Return the task itself: nothing is counted."""
        return self

    @cached_property
    def _loss(self) -> Loss:
        return mask_loss(loss_name("segmentation", self.config), self.config)

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of logits ``(B, 1 + K, *shape)``, labels ``(B, 1, *shape)``.

        Logits ``(B, L, 1 + K, *shape)`` are answers of L levels, the finest first. Each level
        counts half as much as the one before it; the weights sum to 1.

        Source:
            Isensee et al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z (deep supervision).
        """
        if outputs.ndim == target.ndim:
            return self._loss(outputs.float(), target)
        levels = outputs.float().unbind(1)
        shares = [2.0**-i for i in range(len(levels))]
        losses = [
            share / sum(shares) * self._loss(level, target)
            for share, level in zip(shares, levels, strict=True)
        ]
        return torch.stack(losses).sum()

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return probabilities of background and classes, shape ``(B, 1 + K, *shape)``."""
        return outputs.float().softmax(1)

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the scores of a scan: each class's, where there are several, and their mean.

        Args:
            predictions: What ``predict`` returned, or label maps, shape ``(n, *shape)``.
            truth: Prepared labels, shape ``(n, 1, *shape)``; used where examples have no own grid.
            examples: The scan's examples.

        Raises:
            RoundError: The distance between slices is not known (R22).
        """
        own = examples[0].own
        if own is None:
            is_map = predictions.ndim < truth.ndim
            predicted = predictions if is_map else predictions.argmax(1)
            labels, wanted, spacing_mm = _stacked(predicted, truth[:, 0], examples)
        else:
            shares = self._shares(predictions, truth)
            labels = torch.from_numpy(own.restored(shares.numpy()))
            wanted, spacing_mm = torch.from_numpy(own.truth()), own.spacing_mm
        by_class = [
            mask_scores(labels == index, wanted == index, spacing_mm, self.config.missed_hd95_mm)
            for index in range(1, 1 + len(self.target.classes))
        ]
        scores = combined(by_class)
        if len(by_class) > 1:
            for name, found in zip(self.target.classes, by_class, strict=True):
                scores |= {f"{key}_{name}": found[key] for key in found if key not in COUNTS}
        return Reading(len(examples), math.nan, scores=scores)

    def _shares(self, predictions: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return predictions as probabilities; a label map is certain."""
        if predictions.ndim == truth.ndim:
            return predictions
        values = torch.arange(1 + len(self.target.classes))
        shape = (1, -1, *[1] * (predictions.ndim - 1))
        return (predictions[:, None] == values.view(shape)).float()

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's mean scores over scans; counts are summed."""
        n_examples = sum(reading.n_examples for reading in readings)
        scores = combined(reading.scores for reading in readings)
        return Case(site, subject, n_examples, math.nan, (), scores)

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Overlaps lie between 0 and 1; a distance counts up to that of a missed lesion."""
        by_name = {"dice": (0.0, 1.0), "jaccard": (0.0, 1.0)}
        by_name["hd95_mm"] = (0.0, self.config.missed_hd95_mm)
        own = {f"{n}_{one}": span for n, span in by_name.items() for one in self.target.classes}
        return {**by_name, **own, "loss": (0.0, MOST_LOSS)}

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results whose distances are those of a missed lesion at most."""
        return [replace(case, scores=self._within(case.scores)) for case in cases]

    def _within(self, scores: Mapping[str, float]) -> dict[str, float]:
        spans = self.ranges
        return {
            name: min(max(value, spans[name][0]), spans[name][1]) if name in spans else value
            for name, value in scores.items()
        }

    def caption(self, reading: Reading) -> str:
        """Return the scan's Dice."""
        return f"Dice {reading.scores['dice']:.2f}"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return mean scores over patients; counts are summed. NaN where there is no patient."""
        if not cases:
            return dict.fromkeys(("dice", "jaccard", "hd95_mm"), math.nan) | dict.fromkeys(
                COUNTS, 0.0
            )
        return combined(case.scores for case in cases)


def _stacked(
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
        definitions: this is MONAI's, see ``hd95_mm``.

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
        "hd95_mm": hd95_mm(predicted, truth, spacing_mm),
        **empty,
    }


def hd95_mm(a: torch.Tensor, b: torch.Tensor, spacing_mm: Sequence[float]) -> float:
    """Return the larger of the two directed 95th percentiles between surfaces, in mm."""
    with warnings.catch_warnings():  # MONAI 1.6 calls itself with an argument that it deprecates
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        distance = compute_hausdorff_distance(
            a[None, None],
            b[None, None],
            include_background=True,
            percentile=95,
            spacing=tuple(spacing_mm),
        )
    return float(distance)


def combined(scores: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score and the sum of each count."""
    rows = list(scores)
    values = {name: [row[name] for row in rows] for name in rows[0]}
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

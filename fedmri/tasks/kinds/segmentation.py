"""Segmentation: overlap and distance of masks, for each patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedmri.claims import Claim, Claims
from fedmri.data.batches.site_data import Example
from fedmri.data.scans import Finding, Scan, about
from fedmri.data.target import BACKGROUND, LabelMap, no_truth
from fedmri.errors import require
from fedmri.round import Answer, Truth
from fedmri.tasks.loss_names import loss_name
from fedmri.tasks.task import MOST_LOSS, Array, Case, Reading, frozen_lists

if TYPE_CHECKING:
    import torch

    from fedmri.reports.statistics.metrics import Metric
    from fedmri.tasks.cleaning import Labels
    from fedmri.tasks.losses import Loss

NAMES = ("dice", "jaccard", "hd95_mm")
COUNTS = ("n_both_empty", "n_missed", "n_false_alarms")
MISSED_HD95_MM = 374.0
"""HD95 of a missed lesion: what a failure costs."""


@dataclass(frozen=True)
class Segmentation:
    """Predict a label map; slices are put together, and the scan is scored on its own grid.

    Predictions are brought back to the grid of the label file and compared with all of it: a part
    that preparation cropped away counts as missed.

    A class that is empty in truth and prediction has Dice 1 and HD95 0; one that is empty in one
    of them has Dice 0 and HD95 ``missed_hd95_mm``. Both are counted, over scans and classes:
    ``n_both_empty``; ``n_missed`` (nothing predicted); ``n_false_alarms`` (nothing there).

    Attributes:
        name: Name of the derivative whose mask or label map is predicted.
        classes: One name for each positive integer label of the label map (a mask has one), in the
            order of the network's outputs. Background is always there and is not listed.
        labels: What the values of a label map mean, as ``VALUE:CLASS``: ``1:lesion``,
            ``4:lesion``, ``2:background``. ``*:background`` is every value that is not named.
            Empty: values are classes as they stand.
        loss: ``dice_ce`` (which ``auto`` is), ``dice``, ``tversky``, ``ce`` or ``focal``.
        label_smoothing: For cross entropy.
        focal_gamma: Focusing exponent of the focal loss.
        tversky_alpha: Weight of false positives in the Tversky loss; the rest goes to false
            negatives.
        boundary: Weight of the boundary loss beside the other (Kervadec et al. 2021,
            doi:10.1016/j.media.2020.101851). Wrong voxels count by their distance to the boundary
            of a class, in voxels, so 0.01 is much. 0 leaves it out.
        missed_hd95_mm: HD95 of a case in which one of the two masks is empty (FeTS penalty).

    Where a hospital draws some classes only (``data.source.drawn``), the others are left out of its
    scores, and of the loss they are part of the background: see ``fedmri.tasks.marginal``.
    """

    name: str
    classes: Sequence[str]
    labels: Sequence[str] = ()
    loss: str = "auto"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    tversky_alpha: float = 0.3
    boundary: float = 0.0
    missed_hd95_mm: float = MISSED_HD95_MM

    title: ClassVar[str] = "segmentation"
    activation: ClassVar[str] = "softmax over channels"
    source: ClassVar[str] = "Zenk et al. 2025, doi:10.1038/s41467-025-60466-1 (empty masks)"
    example: ClassVar[Mapping[str, Any]] = {"name": "mask", "classes": ("lesion",)}
    losses: ClassVar[tuple[str, ...]] = ("dice_ce", "dice", "tversky", "ce", "focal")
    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    answer: ClassVar[Answer] = "voxel"
    n_groups: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ()
    primary: ClassVar[str] = "dice"
    is_higher_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        frozen_lists(self, "classes", "labels")
        require(bool(self.name), "target.name", self.name, "a derivative name")
        classes = self.classes
        require(len(classes) >= 1, "target.classes", classes, "1 or more class names")
        require(len(set(classes)) == len(classes), "target.classes", classes, "each class once")
        self._require_numbers()
        loss_name(self.loss, self.losses, self.title)
        _ = self.label_map  # which looks at the labels

    def _require_numbers(self) -> None:
        smoothing, gamma = self.label_smoothing, self.focal_gamma
        require(0 <= smoothing < 1, "target.label_smoothing", smoothing, "0 to below 1")
        require(gamma >= 0, "target.focal_gamma", gamma, "0 or more")
        alpha, missed = self.tversky_alpha, self.missed_hd95_mm
        require(self.boundary >= 0, "target.boundary", self.boundary, "0 or more")
        require(0 < alpha < 1, "target.tversky_alpha", alpha, "between 0 and 1")
        require(missed > 0, "target.missed_hd95_mm", missed, "a positive number")

    @cached_property
    def label_map(self) -> LabelMap:
        """The derivative."""
        return LabelMap(self.name, tuple(self.classes), tuple(self.labels))

    @property
    def label_values(self) -> dict[str, int]:
        """Class by value of a label map, as declared; ``*`` is every other value."""
        return self.label_map.label_values

    @property
    def n_outputs(self) -> int:
        """Channels: background and classes."""
        return 1 + len(self.classes)

    @property
    def learned(self) -> str:
        """Label map and classes."""
        return f"{self.title} of {self.name} ({', '.join(self.classes)})"

    @property
    def reads(self) -> str:
        """The label maps."""
        return f"label maps {self.name}"

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's channels."""
        return (BACKGROUND, *self.classes)

    def truth(self, scan: Scan) -> Truth:
        """Return NaN: the label map has it; or for each class whether its hospital draws it.

        Raises:
            DataError: It draws none of the classes (D16).
        """
        if scan.drawn is None:
            return math.nan
        if self._undrawable(scan):
            raise no_truth(f"a label map of {', '.join(scan.drawn)}", self._drawable)
        return tuple(float(name in scan.drawn) for name in self.classes)

    def _undrawable(self, scan: Scan) -> bool:
        """Whether a hospital says to draw none of the classes, or what is no class."""
        return scan.drawn is not None and not {*scan.drawn} & {*self.classes}

    @property
    def _drawable(self) -> str:
        return f"some of {', '.join(self.classes)}, in data.source.drawn"

    def findings(self, scans: Sequence[Scan]) -> list[Finding]:
        """Return which scans have no label map."""
        from fedmri.data.checks.target_values import without_label

        found = [finding for scan in scans for finding in without_label(scan, self.label_map)]
        reason = f"its hospital draws none of the classes: want {self._drawable}"
        return found + [about(s, "D16", reason) for s in scans if self._undrawable(s)]

    def site_findings(
        self, site: str, scans: Sequence[Scan], maps: Sequence[frozenset[int]]
    ) -> list[Finding]:
        """Return which classes a site lacks (D23)."""
        there = frozenset().union(*maps)
        looked = {name for scan in scans for name in scan.drawn or self.classes}
        return [
            Finding("D23", f"no scan of class {name}", site, is_excluded=False)
            for number, name in enumerate(self.classes, start=1)
            if number not in there and name in looked
        ]

    def stratum(self, scan: Scan) -> str:
        """Return that all are alike."""
        return ""

    def batch_target(self, truths: Sequence[Truth]) -> torch.Tensor:
        """Return NaN: label maps are what is learned."""
        import torch

        return torch.full((len(truths),), torch.nan)

    def at_site(self, examples: Sequence[Example]) -> Segmentation:
        """Return the task itself: nothing is counted."""
        return self

    @cached_property
    def _loss(self) -> Loss:
        from fedmri.tasks.losses import mask_loss

        return mask_loss(
            loss_name(self.loss, self.losses, self.title),
            smoothing=self.label_smoothing,
            gamma=self.focal_gamma,
            alpha=self.tversky_alpha,
            boundary=self.boundary,
        )

    def mean_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of logits ``(B, 1 + K, *shape)``, labels ``(B, 1, *shape)``.

        Logits ``(B, L, 1 + K, *shape)`` are answers of L levels, the finest first. Each level
        counts half as much as the one before it; the weights sum to 1.

        Source:
            Isensee et al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z (deep supervision).
        """
        import torch

        if outputs.ndim == target.ndim:
            return self._level_loss(outputs.float(), target)
        levels = outputs.float().unbind(1)
        shares = [2.0**-i for i in range(len(levels))]
        losses = [
            share / sum(shares) * self._level_loss(level, target)
            for share, level in zip(shares, levels, strict=True)
        ]
        return torch.stack(losses).sum()

    def _level_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if len(self.classes) == 1:  # a hospital that draws none of one class has no scans here
            return self._loss(outputs, target)
        from fedmri.tasks.marginal import merged

        return self._loss(*merged(outputs, target))

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
        from fedmri.data.partial import undrawn
        from fedmri.tasks.masks import combined, mask_scores

        labels, wanted, spacing_mm = self._maps(predictions, truth, examples)
        hidden = undrawn(examples[0].target)
        by_class = {
            name: mask_scores(labels == index, wanted == index, spacing_mm, self.missed_hd95_mm)
            for index, name in enumerate(self.classes, start=1)
            if index not in hidden
        }
        scores = combined(by_class.values())
        if len(self.classes) > 1:
            for name, found in by_class.items():
                scores |= {f"{key}_{name}": found[key] for key in found if key not in COUNTS}
        return Reading(len(examples), math.nan, scores=scores)

    def _maps(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[float, ...]]:
        """Return the predicted and the true label map of a scan, and its voxel size."""
        import torch

        from fedmri.tasks.masks import stacked

        own = examples[0].own
        if own is None:
            is_map = predictions.ndim < truth.ndim
            predicted = predictions if is_map else predictions.argmax(1)
            labels, wanted, spacing_mm = stacked(predicted, truth[:, 0], examples)
        else:
            shares = self._shares(predictions, truth)
            labels = torch.from_numpy(own.restored(shares.numpy()))
            wanted, spacing_mm = torch.from_numpy(own.truth()), own.spacing_mm
        return torch.from_numpy(self.finished(labels.numpy(), spacing_mm)), wanted, spacing_mm

    def finished(self, labels: Labels, spacing_mm: Sequence[float]) -> Labels:
        """Return a predicted label map as it is scored and handed out: as it is."""
        return labels

    def under_rule(self, number: int) -> Segmentation:
        """Return the task whose label maps are cleaned by a rule of ``fedmri.tasks.cleaning``."""
        return _Cleaned(**self._settings, rule=number)

    def trying(self) -> Segmentation:
        """Return a task whose readings have the Dice under each rule, in order."""
        return _Trying(**self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(Segmentation)}

    def _shares(self, predictions: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return predictions as probabilities; a label map is certain."""
        if predictions.ndim == truth.ndim:
            return predictions
        import torch

        values = torch.arange(1 + len(self.classes))
        shape = (1, -1, *[1] * (predictions.ndim - 1))
        return (predictions[:, None] == values.view(shape)).float()

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's mean scores over scans; counts are summed."""
        from fedmri.tasks.masks import combined

        n_examples = sum(reading.n_examples for reading in readings)
        scores = combined(reading.scores for reading in readings)
        return Case(site, subject, n_examples, math.nan, (), scores)

    @property
    def reported(self) -> frozenset[str]:
        """Scores, those of each class, and counts."""
        own = {f"{name}_{one}" for name in NAMES for one in self.classes}
        return frozenset({*NAMES, *COUNTS, *own})

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Overlaps lie between 0 and 1; a distance counts up to that of a missed lesion."""
        by_name = {"dice": (0.0, 1.0), "jaccard": (0.0, 1.0)}
        by_name["hd95_mm"] = (0.0, self.missed_hd95_mm)
        own = {f"{n}_{one}": span for n, span in by_name.items() for one in self.classes}
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
        from fedmri.tasks.masks import combined

        if not cases:
            return dict.fromkeys(NAMES, math.nan) | dict.fromkeys(COUNTS, 0.0)
        return combined(case.scores for case in cases)

    def measures(self) -> tuple[Metric, ...]:
        """Return the metrics as a report shows them."""
        from functools import partial

        from fedmri.reports.statistics import bounds
        from fedmri.reports.statistics.metrics import DOWN, UP, Metric

        overlap = partial(bounds.bounded_mean, low=0.0, high=1.0, failure=0.0, unseen=0.3)
        distance = partial(bounds.positive_mean, failure=MISSED_HD95_MM, unseen=0.5)
        return (
            Metric("dice", "Dice", 0, 1, UP, overlap, is_patient_mean=True),
            Metric("jaccard", "Jaccard index", 0, 1, UP, overlap, is_patient_mean=True),
            Metric(
                "hd95_mm", "HD95 (mm)", 0, math.inf, DOWN, distance, unit="mm",
                is_patient_mean=True,
            ),
            Metric("n_both_empty", "both empty", 0, math.inf, UP, None),
            Metric("n_false_alarms", "false alarms", 0, math.inf, DOWN, None),
            Metric("n_missed", "missed", 0, math.inf, DOWN, None),
        )  # fmt: skip

    def guess(self, train: Sequence[Truth]) -> None:
        """Return nothing: a mask needs an image."""
        return

    def linear(self, features: Array, truths: Array, weights: Array, strength: float) -> None:
        """Return nothing: the linear baseline of masks works on voxels."""
        return

    def answers(self, prediction: Sequence[float], case: Case | None) -> dict[str, str]:
        """Return nothing: label maps are files."""
        return {}

    def described(self) -> dict[str, dict[str, str]]:
        """Return nothing: label maps are files."""
        return {}


@dataclass(frozen=True)
class _Cleaned(Segmentation):
    """A segmentation whose small parts are left out by a rule."""

    rule: int = 0

    def finished(self, labels: Labels, spacing_mm: Sequence[float]) -> Labels:
        """Return a label map with the parts that the rule keeps."""
        from fedmri.tasks.cleaning import RULES

        return RULES[self.rule].cleaned(labels, spacing_mm)


@dataclass(frozen=True)
class _Trying(Segmentation):
    """A segmentation that is scored under each rule."""

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the mean Dice over classes under each rule, in the order of rules."""
        from fedmri.data.partial import undrawn
        from fedmri.tasks.cleaning import RULES

        labels, wanted, spacing_mm = self._maps(predictions, truth, examples)
        hidden = undrawn(examples[0].target)
        drawn = [k for k in range(1, len(self.outputs)) if k not in hidden]
        found = [rule.cleaned(labels.numpy(), spacing_mm) for rule in RULES]
        scores = {
            f"rule_{number}": float(np.mean([_dice(one == k, wanted.numpy() == k) for k in drawn]))
            for number, one in enumerate(found)
        }
        return Reading(len(examples), math.nan, scores=scores)


def _dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the Dice of a mask; 1 where both are empty."""
    n_both = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / n_both if n_both else 1.0

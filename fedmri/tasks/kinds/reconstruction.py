"""Masked reconstruction: a network learns to fill hidden parts of images, and needs no label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedmri.claims import Claim, Claims
from fedmri.data.batches.site_data import Example
from fedmri.data.scans import Finding, Scan
from fedmri.errors import require
from fedmri.round import Answer, Truth
from fedmri.tasks.task import MOST_LOSS, Array, Case, Reading, frozen_lists

if TYPE_CHECKING:
    import torch

    from fedmri.reports.statistics.metrics import Metric

NAMES = ("explained", "mse")
LEAST_EXPLAINED = -1.0


@dataclass(frozen=True)
class Reconstruction:
    """Predict the intensities of hidden blocks of an image from the rest of it.

    All modalities of an example are hidden at the same places, and neighbours of a 2.5d slice too.
    Air and missing modalities do not count. ``explained`` is 1 less the squared error over that of
    a guess: the mean of the hidden voxels of each modality of the scan. 0 is as good as this guess,
    1 is perfect.

    Attributes:
        modalities: Those of ``data.source.modalities``, in their order.
        share: Share of the blocks that are hidden, drawn anew each time.
        block: Voxels along each side of a block.
    """

    modalities: Sequence[str]
    share: float = 0.6
    block: int = 8

    title: ClassVar[str] = "masked reconstruction"
    activation: ClassVar[str] = "none: intensities as they were prepared"
    source: ClassVar[str] = (
        "Xie et al. 2022, SimMIM, arXiv:2111.09886; He et al. 2022, MAE, arXiv:2111.06377"
    )
    example: ClassVar[Mapping[str, Any]] = {"modalities": ("FLAIR",)}
    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    name: ClassVar[str] = "image"
    answer: ClassVar[Answer] = "voxel"
    n_groups: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ()
    label_map: ClassVar[None] = None
    primary: ClassVar[str] = "explained"
    is_higher_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        frozen_lists(self, "modalities")
        want = "those of data.source.modalities"
        require(bool(self.modalities), "target.modalities", self.modalities, want)
        require(0 < self.share < 1, "target.share", self.share, "between 0 and 1")
        require(self.block >= 1, "target.block", self.block, "1 or more")

    @property
    def n_outputs(self) -> int:
        """A channel for each modality."""
        return len(self.modalities)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's channels."""
        return tuple(self.modalities)

    @property
    def learned(self) -> str:
        """The images themselves."""
        return f"{self.title} of {', '.join(self.modalities)}"

    @property
    def reads(self) -> str:
        """Nothing besides."""
        return "images alone: no column and no label map"

    def truth(self, scan: Scan) -> Truth:
        """Return NaN: the image has it."""
        return math.nan

    def findings(self, scans: Sequence[Scan]) -> list[Finding]:
        """Return nothing: every image can be learned from."""
        return []

    def site_findings(
        self, site: str, scans: Sequence[Scan], maps: Sequence[frozenset[int]]
    ) -> list[Finding]:
        """Return nothing."""
        return []

    def stratum(self, scan: Scan) -> str:
        """Return that all are alike."""
        return ""

    def batch_target(self, truths: Sequence[Truth]) -> torch.Tensor:
        """Return NaN: ``hidden`` makes the target of the images."""
        import torch

        return torch.full((len(truths),), torch.nan)

    def hidden(
        self, image: torch.Tensor, n_each: int, seeds: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images without their hidden blocks, and what is to be filled in there.

        Args:
            image: Shape ``(B, M * n_each, *shape)``; air is 0.
            n_each: Channels of a modality; the middle one is predicted.
            seeds: One for each example: it decides what is hidden.

        Returns:
            Images whose hidden voxels are 0; targets ``(B, M, *shape)``, NaN where none counts.
        """
        import torch

        each = [self._places(image.shape[2:], seed) for seed in seeds]
        places = torch.stack(each)[:, None].to(image.device)
        wanted = image[:, n_each // 2 :: n_each]
        target = torch.where(places & (wanted != 0), wanted, torch.nan)
        return image.masked_fill(places, 0), target

    def _places(self, shape: Sequence[int], seed: int) -> torch.Tensor:
        import torch

        cells = [-(-side // self.block) for side in shape]
        is_hidden = np.zeros(math.prod(cells), bool)
        n_hidden = max(1, round(self.share * is_hidden.size))
        order = np.random.default_rng([seed, 2]).permutation(is_hidden.size)
        is_hidden[order[:n_hidden]] = True
        places = torch.from_numpy(is_hidden.reshape(cells))
        for axis, side in enumerate(shape):
            places = places.repeat_interleave(self.block, axis).narrow(axis, 0, side)
        return places

    def at_site(self, examples: Sequence[Example]) -> Reconstruction:
        """Return the task itself: nothing is counted."""
        return self

    def mean_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over examples of their mean squared error where they are hidden.

        Of several levels ``(B, L, M, *shape)`` the finest counts, which is the first.
        """
        import torch

        found = self.predict(outputs) if outputs.ndim == target.ndim else outputs[:, 0].float()
        is_hidden = ~target.isnan()
        errors = torch.where(is_hidden, found - target.nan_to_num(), 0.0)
        n_hidden = is_hidden.flatten(1).sum(1).clamp(min=1)
        return (errors.square().flatten(1).sum(1) / n_hidden).mean()

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return intensities, shape ``(B, M, *shape)``."""
        return outputs.float()

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the error over the hidden voxels of a scan, and what it is of the guess's."""
        squares = guessed = 0.0
        n_hidden = 0
        for own, wanted in zip(predictions.unbind(1), truth.double().unbind(1), strict=True):
            is_hidden = ~wanted.isnan()
            values = wanted[is_hidden]
            if len(values):
                squares += float((own[is_hidden] - values).square().sum())
                guessed += float((values - values.mean()).square().sum())
                n_hidden += len(values)
        explained = 1 - squares / guessed if guessed else 0.0
        scores = {"explained": explained, "mse": squares / n_hidden if n_hidden else 0.0}
        return Reading(len(examples), math.nan, scores=_within(scores))

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's mean scores over scans."""
        n_examples = sum(reading.n_examples for reading in readings)
        scores = _means([reading.scores for reading in readings])
        return Case(site, subject, n_examples, math.nan, (), scores)

    def caption(self, reading: Reading) -> str:
        """Return how much of what was hidden is explained."""
        return f"explained {reading.scores['explained']:.2f}"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return mean scores over patients; NaN where there is none."""
        return _means([case.scores for case in cases])

    def measures(self) -> tuple[Metric, ...]:
        """Return the metrics as a report shows them."""
        from functools import partial

        from fedmri.reports.statistics import bounds
        from fedmri.reports.statistics.metrics import DOWN, UP, Metric

        share = partial(
            bounds.bounded_mean, low=LEAST_EXPLAINED, high=1.0, failure=LEAST_EXPLAINED, unseen=0.1
        )
        return (
            Metric(
                "explained", "explained share of hidden voxels", LEAST_EXPLAINED, 1, UP, share,
                is_patient_mean=True,
            ),
            Metric(
                "mse", "squared error of hidden voxels", 0, math.inf, DOWN,
                partial(bounds.positive_mean, unseen=0.1), is_patient_mean=True,
            ),
        )  # fmt: skip

    @property
    def reported(self) -> frozenset[str]:
        """All of them."""
        return frozenset(NAMES)

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """What explains less than -1 counts as -1."""
        return {"explained": (LEAST_EXPLAINED, 1.0), "mse": (0, MOST_LOSS), "loss": (0, MOST_LOSS)}

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results within the ranges."""
        return [replace(case, scores=_within(case.scores)) for case in cases]

    def guess(self, train: Sequence[Truth]) -> None:
        """Return nothing: ``explained`` is measured against a guess already."""
        return

    def linear(self, features: Array, truths: Array, weights: Array, strength: float) -> None:
        """Return nothing: there is no linear model of it."""
        return

    def answers(self, prediction: Sequence[float], case: Case | None) -> dict[str, str]:
        """Return nothing: there is no question."""
        return {}

    def described(self) -> dict[str, dict[str, str]]:
        """Return nothing: there is no question."""
        return {}


def _within(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores within their ranges; an error that is not finite is as large as can be."""
    mse, explained = scores["mse"], scores["explained"]
    if not (math.isfinite(mse) and math.isfinite(explained)):
        return {"explained": LEAST_EXPLAINED, "mse": MOST_LOSS}
    return {"explained": max(explained, LEAST_EXPLAINED), "mse": min(mse, MOST_LOSS)}


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    if not found:
        return dict.fromkeys(NAMES, math.nan)
    return {name: math.fsum(one[name] for one in found) / len(found) for name in NAMES}

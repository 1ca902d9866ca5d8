"""The door of a task: what it minimises, what it predicts, and how a patient is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fedmri.round import Target

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Case:
    """One patient's result: the unit of every score and every interval. Stays at the site.

    Attributes:
        site: Institution of the patient.
        subject: Patient.
        n_examples: Volumes or slices behind the prediction.
        truth: Class index or value; NaN for segmentation.
        prediction: Class probabilities, or the value in one entry; empty for segmentation.
        scores: The patient's own metrics, such as ``dice``, ``hd95_mm``, ``absolute_error``.
    """

    site: str
    subject: str
    n_examples: int
    truth: float
    prediction: tuple[float, ...]
    scores: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """Classification, segmentation or regression of one target."""

    target: Target
    primary: str
    """Metric that arms are compared by."""
    is_higher_better: bool

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch: raw outputs and ``Batch.target``."""
        ...

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return every metric over patients, ``primary`` among them; NaN where undefined."""
        ...

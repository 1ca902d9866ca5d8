"""The doors of a task: what it minimises, what it predicts, and how a patient is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from fedmri.data.batches.site_data import Example
from fedmri.round import Target

if TYPE_CHECKING:
    import torch


MOST_LOSS = 20.0
"""Largest loss of a patient that counts in a mean: that of a probability of 2e-9 for the truth."""


@dataclass(frozen=True)
class Reading:
    """What the network made of one scan: all that is kept of it once the next one comes.

    Attributes:
        n_examples: Volumes or slices of the scan.
        truth: Class index or value; NaN for segmentation.
        predictions: Class probabilities, or the value in one entry, of each example; empty for
            segmentation.
        scores: The scan's own metrics (segmentation). Those that begin with ``n_`` are counts.
    """

    n_examples: int
    truth: float
    predictions: tuple[tuple[float, ...], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


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

    @property
    def target(self) -> Target:
        """What is predicted."""
        ...

    @property
    def primary(self) -> str:
        """Metric that arms are compared by."""
        ...

    @property
    def is_higher_better(self) -> bool:
        """Direction of ``primary``."""
        ...

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch: raw outputs and ``Batch.target``."""
        ...

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return every metric over patients, ``primary`` among them; NaN where undefined."""
        ...


class LocalTask(Task, Protocol):
    """A task as a site's training and evaluation need it."""

    def at_site(self, examples: Sequence[Example]) -> LocalTask:
        """Return the task with what it counts in a site's training examples (class weights)."""
        ...

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return probabilities ``(B, K)`` or ``(B, 1 + K, *shape)``, or values ``(B, 1)``."""
        ...

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the reading of one scan.

        Args:
            predictions: What ``predict`` made of its examples, in their order, on the CPU.
            truth: Their targets as in ``Batch.target``, on the CPU.
            examples: Its examples, in the order of slices.

        Raises:
            RoundError: Slices cannot be put back together (R22).
        """
        ...

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's result from the readings of all scans."""
        ...

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """The range of the loss and of every metric, declared before any patient is seen."""
        ...

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results with every patient's errors within the declared ranges.

        One patient then moves a mean over n patients by one n-th of the range at most, whatever
        the network. A prediction that is not finite is as wrong as can be.
        """
        ...

    def caption(self, reading: Reading) -> str:
        """Return one line about a reading, for a picture in a report."""
        ...

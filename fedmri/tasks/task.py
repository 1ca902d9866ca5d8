"""What a task is: what it reads, minimises and predicts, how a patient is scored, what it says.

A task is one file, in ``fedmri/tasks/kinds`` or in another distribution. Its class is a frozen
dataclass, and its fields are its settings, below ``target``. Libraries are imported in the methods,
so that settings are read without them. No other room knows a task by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from fedmri.data.batches.site_data import Example
from fedmri.data.target import DataTarget, first_alike
from fedmri.round import Answer, Truth

if TYPE_CHECKING:
    import torch

    from fedmri.reports.statistics.metrics import Metric
    from fedmri.tasks.cleaning import Labels

Array: TypeAlias = NDArray[np.float64]

Predict: TypeAlias = Callable[[Array], Array]
"""From standardised features ``(n, F)`` to what ``Task.predict`` would give, shape ``(n, K)``."""

MOST_LOSS = 20.0
"""Largest loss of a patient that counts in a mean: that of a probability of 2e-9 for the truth."""


@dataclass(frozen=True)
class Reading:
    """What the network made of one scan: all that is kept of it once the next one comes.

    Attributes:
        n_examples: Volumes or slices of the scan.
        truth: What is true of it; NaN where label maps have it.
        predictions: What is predicted of each example; empty for label maps.
        scores: The scan's own metrics (label maps). Those that begin with ``n_`` are counts.
    """

    n_examples: int
    truth: Truth
    predictions: tuple[tuple[float, ...], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One patient's result: the unit of every score and every interval. Stays at the site.

    Attributes:
        site: Institution of the patient.
        subject: Patient.
        n_examples: Volumes or slices behind the prediction.
        truth: What is true of the patient; NaN where label maps have it.
        prediction: What is predicted; empty for label maps.
        scores: The patient's own metrics, such as ``dice``, ``hd95_mm``, ``absolute_error``.
    """

    site: str
    subject: str
    n_examples: int
    truth: Truth
    prediction: tuple[float, ...]
    scores: Mapping[str, float] = field(default_factory=dict)


class Task(DataTarget, Protocol):
    """Something that can be learned from images. It may also have claims, see ``fedmri.claims``.

    Attributes:
        title: What it is called in texts.
        activation: How raw outputs become what is predicted, for programs that run an export.
        answer: What it needs of a network: ``image`` or ``voxel``.
        example: Settings that make one, for the documents and the tests.
    """

    title: ClassVar[str]
    activation: ClassVar[str]
    answer: ClassVar[Answer]
    example: ClassVar[Mapping[str, Any]]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's channels, for people and other programs."""
        ...

    @property
    def learned(self) -> str:
        """What is learned: a hospital reads it before it approves a plan."""
        ...

    @property
    def reads(self) -> str:
        """What of the tables and derivatives is read, for the same page."""
        ...

    def at_site(self, examples: Sequence[Example]) -> Task:
        """Return the task with what it counts in a site's training examples (class weights)."""
        ...

    def mean_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch: raw outputs and ``Batch.target``."""
        ...

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return what is predicted, shape ``(B, K)``, or shares ``(B, 1 + K, *shape)``."""
        ...

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the reading of one scan.

        Args:
            predictions: What ``predict`` made of its examples, in their order, on the CPU.
            truth: Their targets as in ``Batch.target``, on the CPU; NaN where they are not known.
            examples: Its examples, in the order of slices.

        Raises:
            RoundError: Slices cannot be put back together (R22).
        """
        ...

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's result from the readings of all scans that have its truth."""
        ...

    def caption(self, reading: Reading) -> str:
        """Return one line about a reading, for a picture in a report."""
        ...

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return every metric over patients, ``primary`` among them; NaN where undefined."""
        ...

    def measures(self) -> tuple[Metric, ...]:
        """Return name, unit, range, direction and interval of each metric."""
        ...

    @property
    def reported(self) -> frozenset[str]:
        """Names of all metrics over patients that may leave a site."""
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

    def guess(self, train: Sequence[Truth]) -> tuple[float, ...] | None:
        """Return the prediction that looks at no image, from all training patients.

        None where there is no such guess. It has the form of a row of ``predict``.
        """
        ...

    def linear(
        self, features: Array, truths: Array, weights: Array, strength: float
    ) -> Predict | None:
        """Return a linear model of standardised features; None where there is none.

        Args:
            features: Shape ``(n, F)``.
            truths: Shape ``(n,)`` or ``(n, K)``.
            weights: Of each row: a patient's rows weigh 1 together.
            strength: Penalty, in units of one row.
        """
        ...

    def answers(self, prediction: Sequence[float], case: Case | None) -> dict[str, str]:
        """Return the cells of a table of predictions.

        Args:
            prediction: A row of ``predict``, or the mean over the examples of a scan.
            case: The patient's result, where the row is of a patient and not of a scan.
        """
        ...

    def described(self) -> dict[str, dict[str, str]]:
        """Return what the columns of ``answers`` mean, as BIDS has it in a sidecar."""
        ...


@runtime_checkable
class Coded(Protocol):
    """What a task has besides, where least squares can fit its answers under a bound.

    Attributes:
        per_code: What a linear network has to answer in raw outputs where a code says 1.
    """

    @property
    def per_code(self) -> float:
        """Raw outputs that a code of 1 stands for."""
        ...

    def coded(self, truths: Array) -> Array:
        """Return answers around 0, shape ``(n, n_outputs)``, no row longer than 1."""
        ...


@runtime_checkable
class Scaled(Protocol):
    """What a task has besides, where its target has a unit that the network need not learn in.

    Attributes:
        centre: Value that a network which answers 0 predicts.
        scale: Change of the target that a network's 1 stands for.
        max_error: Largest error of one patient that counts, in units of ``scale``.
    """

    @property
    def centre(self) -> float:
        """In the target's unit."""
        ...

    @property
    def scale(self) -> float:
        """In the target's unit."""
        ...

    @property
    def max_error(self) -> float:
        """In units of ``scale``."""
        ...

    def scaled(self, centre: float, scale: float) -> Task:
        """Return the task with another centre and scale; no range gets wider."""
        ...


@runtime_checkable
class Ranked(Protocol):
    """What a task has besides, where patients are ordered by probabilities: ROC areas.

    Attributes:
        are_exclusive: Whether each patient is in one class alone, so that counts of all classes but
            one tell the last.
    """

    are_exclusive: ClassVar[bool]

    @property
    def ranked(self) -> tuple[str, ...]:
        """Classes or findings with an area of their own; of two classes, the second."""
        ...

    def ranks(self, cases: Sequence[Case]) -> list[tuple[Array, NDArray[np.bool_]]]:
        """Return of each area the probability and the truth of patients of whom it is known."""
        ...


@runtime_checkable
class Parted(Protocol):
    """What a task has besides, where small parts of its label maps can be left out."""

    def trying(self) -> Task:
        """Return a task whose readings have the Dice under each rule of ``cleaning``, in order."""
        ...

    def under_rule(self, number: int) -> Task:
        """Return the task whose label maps are cleaned by a rule."""
        ...

    def finished(self, labels: Labels, spacing_mm: Sequence[float]) -> Labels:
        """Return a predicted label map as it is scored and handed out."""
        ...


def patient_cases(task: Task, readings: Mapping[tuple[str, str], Sequence[Reading]]) -> list[Case]:
    """Return the result of each patient, in order.

    A patient is scored once, so where the truth changes between visits, those count at which it
    was as at the first (finding D34).

    Args:
        task: What is predicted.
        readings: Of each patient's scans in order, by site and subject.
    """
    cases = []
    for patient in sorted(readings):
        own = readings[patient]
        alike = first_alike([reading.truth for reading in own])
        cases.append(
            task.case(*patient, [one for one, is_so in zip(own, alike, strict=True) if is_so])
        )
    return cases


def frozen_lists(part: object, *names: str) -> None:
    """Make tuples of the lists that a notebook gave, before a frozen dataclass is used.

    Words are written as those of tables are: of two Unicode forms, an umlaut has the composed one.
    """
    for name in names:
        values = tuple(getattr(part, name))
        plain = (normalize("NFC", value) if isinstance(value, str) else value for value in values)
        object.__setattr__(part, name, tuple(plain))


def single(truth: Truth) -> float:
    """Return the truth of a task that has one number a patient."""
    return truth[0] if isinstance(truth, tuple) else truth

"""What a stage spends of a site's privacy, and who writes it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmri.round import Weights

if TYPE_CHECKING:
    from fedmri.privacy.accounting import Steps
    from fedmri.privacy.dp_sgd import PrivateSteps
    from fedmri.privacy.stream import Noise

Unit: TypeAlias = "Literal['patient', 'site']"
"""Whom noise hides."""


@dataclass(frozen=True)
class Release:
    """A noised release of a site, as its account writes it down before it leaves.

    Attributes:
        n_subjects: Patients behind it.
        round_index: Round; 0 is before the rounds.
        arrays: What leaves.
        extra: What leaves beside it.
        steps: Noise, sampling rate and number of steps.
        unit: Whom the noise hides.
    """

    n_subjects: int
    round_index: int
    arrays: Mapping[str, Any]
    extra: Mapping[str, Weights]
    steps: Steps
    unit: Unit


@dataclass(frozen=True)
class Spending:
    """Epsilon and delta of all that a site released so far."""

    epsilon: float
    delta: float


class Account(Protocol):
    """What a site guards its patients by: its secret, its ledger of privacy, its caps."""

    @property
    def n_least(self) -> int:
        """Patients that must be behind each cell of a sum; 0 sets no floor."""
        ...

    def batches(self, order: str, phase: str) -> PrivateSteps:
        """Return where the batches and noised gradients of a phase of training come from."""
        ...

    def stream(self, order: str, released: Mapping[str, Any]) -> Noise:
        """Return the noise of a release: another for another order or other values."""
        ...

    def refuse_beyond(self, steps: Steps, unit: Unit, n_subjects: int) -> None:
        """Refuse steps that would spend more than plan or site allow (P31)."""
        ...

    def reserve(self, release: Release) -> Spending:
        """Write down a release before it leaves; return all that was spent."""
        ...


class _Silence:
    def normal(self, n: int) -> NDArray[np.float64]:
        return np.zeros(n)


class NothingLeaves:
    """The account of a place that nothing is sent from, such as a model that is tried at home."""

    n_least = 0

    def batches(self, order: str, phase: str) -> PrivateSteps:
        """Refuse: nothing is trained here."""
        raise NotImplementedError

    def stream(self, order: str, released: Mapping[str, Any]) -> Noise:
        """Return silence: what stays needs no noise."""
        return _Silence()

    def refuse_beyond(self, steps: Steps, unit: Unit, n_subjects: int) -> None:
        """Refuse nothing: nothing is spent."""

    def reserve(self, release: Release) -> Spending:
        """Write down nothing."""
        return Spending(0.0, 0.0)

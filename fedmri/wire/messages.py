"""What is said between server and sites, as values: orders, and the answers to them.

An answer to an order to train is ``fedmri.round.Update``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedmri.round import Weights


@dataclass(frozen=True)
class Masking:
    """What a site needs to mask its values: the number of the sum, and the boxes of all sites."""

    number: int
    arrays: Weights


@dataclass(frozen=True)
class TrainOrder:
    """What the server asks of a site: train for a round, from ``weights``.

    Attributes:
        round_index: Number of the round, from 1.
        weights: Shared entries of the model.
        extra: What the strategy sends beside it, and what stages fitted.
        masking: Where the update is to be masked.
    """

    round_index: int
    weights: Weights
    extra: Mapping[str, Weights] = field(default_factory=dict)
    masking: Masking | None = None


@dataclass(frozen=True)
class EvaluateOrder:
    """What the server asks of a site: score ``weights`` on a split.

    Attributes:
        round_index: Last round of training behind the weights.
        split: ``val`` or ``test``.
        weights: Shared entries of the model.
        n_pictures: Example pictures that the site writes to its own disk.
        extra: Named tensors beside the weights: what stages fitted.
    """

    round_index: int
    split: str
    weights: Weights
    n_pictures: int = 0
    extra: Mapping[str, Weights] = field(default_factory=dict)


@dataclass(frozen=True)
class SumsOrder:
    """What the server asks of a site: its part of sums over sites.

    Attributes:
        step: Which step of the stage's sums, from 0.
        shared: What came of the step before it.
        weights: Model of whose embeddings the sums are; empty where they are of images.
        round_index: Last round of training behind it.
        extra: Named tensors beside the model: what stages fitted.
        masking: Where the sums are to be masked.
        stage: Number of the stage among those of the plan.
    """

    step: int
    shared: Weights
    weights: Weights = field(default_factory=dict)
    round_index: int = 0
    extra: Mapping[str, Weights] = field(default_factory=dict)
    masking: Masking | None = None
    stage: int = 0


@dataclass(frozen=True)
class SecureStep:
    """What the server asks of a site for a secure sum, besides the values themselves.

    Attributes:
        round_index: Round whose updates are summed; 0 before the rounds.
        number: Number of the sum.
        stage: ``advertise``, ``share`` or ``reveal``.
        arrays: Nothing, the roster, or the survivors.
        sums: Step of the harmonization whose sums are hidden, of the same round; None for updates.
    """

    round_index: int
    number: int
    stage: str
    arrays: Weights
    sums: SumsOrder | None = None


@dataclass(frozen=True)
class Sums:
    """What a site answers: what it adds to each sum, and how much is behind it."""

    site: str
    arrays: Weights
    n_subjects: int
    n_examples: int


@dataclass(frozen=True)
class SecureAnswer:
    """What a site answers to a step of a secure sum: keys, boxes or shares, and what is behind."""

    site: str
    arrays: Weights
    n_subjects: int
    n_examples: int


@dataclass(frozen=True)
class Scores:
    """What a site answers: aggregate metrics over patients, never a patient's own."""

    site: str
    n_subjects: int
    n_examples: int
    metrics: Mapping[str, float]

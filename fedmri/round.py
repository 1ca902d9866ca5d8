"""The words of a round: what is learned, what a batch holds, what travels, how it is combined.

This is the narrow door between the rooms: data fills a ``Batch``, training turns it into an
``Update``, a ``Strategy`` turns updates into the next model, and nobody needs to know the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch

Weights: TypeAlias = "dict[str, torch.Tensor]"
"""Parameters and buffers by name, as in ``state_dict()``, on the CPU."""

ExtraForms: TypeAlias = "Mapping[str, Mapping[str, Form]]"
"""What travels beside a model: by record and entry."""

Answer = Literal["image", "voxel"]
"""What a network gives: one vector for each image, or one for each of its voxels."""

Truth: TypeAlias = "float | tuple[float, ...]"
"""What is true of a patient: a class index or a value, or several numbers; NaN is unknown."""


class Target(Protocol):
    """What is learned, as those see it who know nothing of its kind: see ``fedmri.tasks``."""

    @property
    def name(self) -> str:
        """Column of the subject table, derivative, or whatever it is called."""
        ...

    @property
    def title(self) -> str:
        """What its kind is called in texts."""
        ...

    @property
    def answer(self) -> Answer:
        """What it needs of a network."""
        ...

    @property
    def n_outputs(self) -> int:
        """Channels of the network's answer."""
        ...

    @property
    def n_groups(self) -> int:
        """Groups that ``Batch.target`` numbers from 0, one a patient; 1 where it is no group."""
        ...

    @property
    def primary(self) -> str:
        """Metric over patients that models are compared by."""
        ...

    @property
    def is_higher_better(self) -> bool:
        """Whether a larger ``primary`` is better."""
        ...


@dataclass(frozen=True)
class Batch:
    """Examples that go through the network together.

    Attributes:
        image: Shape ``(B, C, H, W)`` or ``(B, C, D, H, W)``, float32; a missing modality is zero.
        target: What the task makes of the truths, an entry an example: class ``(B,)`` int64, or
            ``(B, K)`` float32 where examples were mixed; numbers ``(B,)`` or ``(B, K)`` float32;
            label maps ``(B, 1, H, W)`` or ``(B, 1, D, H, W)`` int64, below 0 where a voxel is
            background or a class that nobody drew, see ``fedmri.data.partial``.
        present: Whether each modality was there, shape ``(B, C)``, bool.
        subjects: Subject of each example.
        scans: Scan of each example (slices of one scan share it; they come in order).
        covariates: Numbers of each example's patient that the network reads beside the image,
            shape ``(B, K)``, float32; None where the plan declares none.
    """

    image: torch.Tensor
    target: torch.Tensor
    present: torch.Tensor
    subjects: tuple[str, ...]
    scans: tuple[str, ...]
    covariates: torch.Tensor | None = None

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """What a network is called with."""
        return (self.image,) if self.covariates is None else (self.image, self.covariates)

    def pinned(self) -> Batch:
        """Return the batch in memory from which a GPU takes it while the CPU goes on."""
        beside = None if self.covariates is None else self.covariates.pin_memory()
        image, target = (v if v.is_cuda else v.pin_memory() for v in (self.image, self.target))
        return replace(self, image=image, target=target, covariates=beside)

    def inputs_on(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Return what a network on a device is called with."""
        return tuple(each.to(device, non_blocking=True) for each in self.inputs)


@dataclass(frozen=True)
class Layout:
    """Which entries of a model are what; the same at every site and at the server.

    Attributes:
        parameters: Names of trainable parameters.
        norm_parameters: Those of batch-norm layers (scale and shift).
        norm_statistics: Buffers of batch-norm layers (running mean, variance, batch count).
        head: Parameters of the last layer, which turns features into the network's outputs.
    """

    parameters: frozenset[str] = frozenset()
    norm_parameters: frozenset[str] = frozenset()
    norm_statistics: frozenset[str] = frozenset()
    head: frozenset[str] = frozenset()

    @property
    def head_layer(self) -> str:
        """Name of the last layer in the network."""
        return next(iter(self.head)).rpartition(".")[0]


@dataclass(frozen=True)
class Form:
    """Type and shape of an entry as it travels."""

    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Update:
    """What a site returns from a round.

    Attributes:
        site: Name of the site.
        weights: The site's model after training: the shared entries only, or their encoded form
            on the way. It may alias the live network in one process, or be decoded when it is
            looked at: it is valid until the next update is asked for.
        n_examples: Counted examples (volumes or slices) trained on in one pass; never batches.
        n_subjects: Counted patients behind them.
        metrics: Aggregate numbers of the site, such as ``loss``, ``n_steps``, ``seconds``.
        extra: Further named weights that a strategy declares (such as control variates).
    """

    site: str
    weights: Mapping[str, torch.Tensor]
    n_examples: int
    n_subjects: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, Weights] = field(default_factory=dict)


@dataclass(frozen=True)
class ServerState:
    """All that the server must keep to go on: the model and the strategy's own memory.

    Attributes:
        model: The global model.
        layout: Which of its entries are what; of the network, so no checkpoint holds it.
        memory: What the strategy keeps, by slot and name.
    """

    model: Weights
    layout: Layout = field(default_factory=Layout)
    memory: Mapping[str, Weights] = field(default_factory=dict)


@dataclass(frozen=True)
class SiteRound:
    """What a site has before it trains in a round.

    Attributes:
        layout: Which entries of the model are what.
        ticket: Number of this round at this site, which no other round has.
        received: Shared entries of the model, as the server sent them; not to be changed.
        extra: What the server sent beside it: the strategy's ``broadcast``.
        memory: What the strategy kept at this site after its last round; empty before the first.
        momentum: Momentum of the site's SGD; 0 under other optimizers.
    """

    layout: Layout
    ticket: int
    received: Weights
    extra: Mapping[str, Weights] = field(default_factory=dict)
    memory: Mapping[str, Weights] = field(default_factory=dict)
    momentum: float = 0.0


GradientTerm: TypeAlias = "Callable[[torch.nn.Module], None]"
"""Edits ``.grad`` in place after the backward pass and before clipping and the optimizer step."""


LossTerm: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
"""From the targets of the batch that last went through the network to what its loss is added."""


LossTerms: TypeAlias = "Callable[[torch.nn.Module, Layout], AbstractContextManager[LossTerm]]"
"""From a network that is trained to what is added to its loss while it is."""


@dataclass(frozen=True)
class Phase:
    """A stretch of a site's training in a round; a round has one or more, in order.

    Attributes:
        name: For the optimizer's state, where it is kept.
        share: Share of the round's steps.
        frozen: Parameters that do not move in it.
        term: What is added to the gradients.
        start: Model that it starts from; None goes on from where the network is: the received
            model before the first phase. A phase with its own start trains a model that is not
            sent.
        loss: What is added to the loss; None adds nothing.
        squares: Second moments that a kept Adam goes on with, without bias, by parameter; zeros
            leave its own. None neither sets nor asks for any.
    """

    name: str = "train"
    share: float = 1.0
    frozen: frozenset[str] = frozenset()
    term: GradientTerm | None = None
    start: Weights | None = None
    loss: LossTerms | None = None
    squares: Weights | None = None


@dataclass(frozen=True)
class Trained:
    """What came of a phase.

    Attributes:
        weights: The network's entries after it, all of them; they may alias the live network.
        n_steps: Steps taken.
        rate_sum: Sum of their learning rates.
        squares: Second moments of Adam after it, without bias, where the phase has any.
    """

    weights: Weights
    n_steps: int
    rate_sum: float
    squares: Weights = field(default_factory=dict)


@dataclass(frozen=True)
class SiteMemory:
    """What a strategy leaves at a site, and what it sends beside the update.

    Attributes:
        memory: Kept on the site's own disk for the next round, never sent.
        extra: Sent; what ``Strategy.extra_forms`` declares and nothing else.
    """

    memory: Mapping[str, Weights] = field(default_factory=dict)
    extra: Mapping[str, Weights] = field(default_factory=dict)


class Strategy(Protocol):
    """A rule that combines updates: pure, without transport, one object for both halves.

    Its class is a frozen dataclass; its fields are its settings. What it claims and needs stands in
    the class, see ``fedmri.claims``; a rule that claims nothing is refused wherever a claim counts.

    The site's half is ``local_names``, ``phases``, ``remember`` and ``own_model``; the server's is
    ``start``, ``broadcast``, ``turns`` and ``aggregate``. What either keeps is in its memory, so
    checkpoint, resume and deployment need to know nothing of the rule.
    """

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return the entries that stay at the site: never sent, kept in the site's state."""
        ...

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return how a site trains in a round."""
        ...

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Return what a site keeps and sends after a round, given what came of each phase."""
        ...

    def own_model(self, memory: Mapping[str, Weights]) -> Weights:
        """Return the entries that replace the received ones when a site's patients are scored."""
        ...

    def extra_forms(self, shared: Mapping[str, torch.Tensor], layout: Layout) -> ExtraForms:
        """Declare what a site sends beside its update."""
        ...

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the state before the first round."""
        ...

    def broadcast(self, state: ServerState) -> Mapping[str, Weights]:
        """Return what is sent to the sites beside the model."""
        ...

    def weigh(self, update: Update) -> float:
        """Return the weight of a site's update in a mean; 0 where it trained on no example."""
        ...

    def turns(self, sites: tuple[str, ...], round_index: int) -> tuple[tuple[str, ...], ...]:
        """Return who trains one after another in a round, and who side by side."""
        ...

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state after a turn.

        Args:
            state: State before it; its tensors are not changed.
            updates: Accepted updates, in ascending order of site, each valid only until the next
                is taken: add it up and let go of it, so that memory does not grow with sites.
            out: Buffers of the model's shapes that the new model is written to and made of.

        Raises:
            RoundError: No site trained on any example (R02), or updates out of order (R07).
        """
        ...

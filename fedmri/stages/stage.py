"""The door of a stage: a step on the way between a site's scans and the next model.

A stage has a site's half and a server's half in one object. The stages of a plan are a list: it
runs forwards at a site and backwards at the server. Whatever a stage does not override leaves
everything as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from fedmri.claims import Claims
from fedmri.harmonize.sums import Arrays, SumStage
from fedmri.round import Form, Layout, LossTerm, Update, Weights
from fedmri.stages.account import Account

if TYPE_CHECKING:
    import torch

    from fedmri.data.batches.site_data import SiteData, Split, Voxels
    from fedmri.plan import Plan
    from fedmri.privacy.accounting import Steps
    from fedmri.privacy.dp_sgd import PrivateSteps
    from fedmri.tasks.task import Case, Task
    from fedmri.training.settings import TrainConfig


class Place(Enum):
    """What a stage works on; the stages of a plan run in this order."""

    TABLE = "a table of features"
    IMAGES = "images"
    EMBEDDINGS = "embeddings"
    ANSWERS = "answers"
    UPDATES = "updates"


class When(Enum):
    """When a stage is fitted by sums over the sites."""

    NEVER = "never"
    BEFORE_ROUNDS = "before the rounds"
    BEFORE_EACH_ROUND = "before each round"
    AFTER_ROUNDS = "after the rounds"
    AFTER_TEST = "after the test"


class ImageChange(Protocol):
    """What is done to an image."""

    def __call__(self, key: str, whole: Voxels, part: Voxels) -> Voxels:
        """Return a part of an image, changed by what the whole of it is like.

        Args:
            key: Name of the image, for what is remembered of it.
            whole: The image, shape ``(C, D, H, W)``.
            part: What is changed, shape ``(C, …)``.
        """
        ...


@dataclass(frozen=True)
class Made:
    """What the sums of a stage depend on: the plan, and the network that it trains.

    Attributes:
        plan: What is learned.
        entries: All entries of the network; empty where none is built yet.
        layout: Which of them are what.
    """

    plan: Plan
    entries: Mapping[str, torch.Tensor] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)

    @property
    def n_channels(self) -> int:
        """Modalities of an image."""
        return len(self.plan.data.source.channels)

    @property
    def n_features(self) -> int:
        """Numbers of an embedding: what the last layer reads."""
        heads = (self.entries[name] for name in sorted(self.layout.head))
        [n_features] = {int(value.shape[1]) for value in heads if value.ndim > 1}
        return n_features


@dataclass(frozen=True)
class AtSite:
    """A site as a stage sees it.

    Attributes:
        site: Name of the site.
        plan: What is learned.
        data: The site's examples, as earlier stages changed them.
        account: Its secret, ledger and caps.
        round_index: Round; 0 is before the rounds.
        network: The network with the weights that were received, or None before the rounds.
        layout: Which entries of the network are what.
        fitted: What was fitted for this stage, as it was received.
        kept: What this stage kept at the site after its last round.
        files: Files that the site's owner prepared: scans, or a table.
        folder: The site's own folder for the run; nothing in it leaves.
        task: What is learned, as outputs are read under what was fitted so far.
        tested: Returns the results of the site's test patients, once the final model was tested.
        validated: Returns those of its validation patients under the same model.
    """

    site: str
    plan: Plan
    data: SiteData
    account: Account
    round_index: int = 0
    network: torch.nn.Module | None = None
    layout: Layout = field(default_factory=Layout)
    _: KW_ONLY
    fitted: Weights = field(default_factory=dict)
    kept: Weights = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    folder: Path = Path()
    task: Task | None = None
    tested: Callable[[], Sequence[Case]] = tuple
    validated: Callable[[], Sequence[Case]] = tuple

    @property
    def learned(self) -> Task:
        """What is learned; the plan's where nothing was fitted to it."""
        return self.plan.target if self.task is None else self.task

    @property
    def made(self) -> Made:
        """What the sums of a stage depend on."""
        if self.network is None:
            return Made(self.plan)
        from fedmri.models.weights import weights

        return Made(self.plan, weights(self.network), self.layout)

    @property
    def patients(self) -> list[tuple[str, str]]:
        """Patient of each training example, in their order."""
        return [(one.site, one.subject) for one in self.data.examples("train")]

    @property
    def n_subjects(self) -> int:
        """Training patients."""
        return len(set(self.patients))


@dataclass(frozen=True)
class Term:
    """What is added to the loss of a round.

    Attributes:
        loss: From a batch's targets to the term.
        kept: What the site keeps of it until the next round.
    """

    loss: LossTerm
    kept: Callable[[], Weights] = dict


@dataclass(frozen=True)
class Leaving:
    """An update on its way out of a site.

    Attributes:
        received: Shared entries of the model, as they were sent to the site.
        arrays: What would leave, as the stages so far have it.
        local: Entries of the model that stay at the site.
        parameters: Names of trainable entries.
        order: Returns the digest of all that the site was asked.
        extra: What the strategy sends beside the model.
        kept: What stages keep at the site until the next round, by their names.
    """

    received: Weights
    arrays: Weights
    local: Weights
    parameters: frozenset[str]
    order: Callable[[], str]
    extra: Mapping[str, Weights] = field(default_factory=dict)
    kept: Mapping[str, Weights] = field(default_factory=dict)

    def keeping(self, stage: str, values: Weights) -> Leaving:
        """Return it with what a stage keeps; nothing where it keeps nothing."""
        return replace(self, kept={**self.kept, stage: values}) if values else self


class Stage:
    """A stage; its class is a frozen dataclass, and its fields are its settings.

    What it claims stands in the class, see ``fedmri.claims``. A stage that claims nothing
    is refused under secure aggregation, differential privacy and filters.

    Attributes:
        place: What it works on.
        when: When it is fitted by sums over the sites.
        is_handed_out: Whether the run ends with what was fitted: no network is trained.
        is_alone: Whether no other stage of the plan may have the same place.
        is_scored_with: Whether a model is scored with what was fitted.
        is_own_site_read: Whether scoring reads all scans of a site, and not one alone.
        claims: What it promises; not inherited.
        asks: What the plan's strategy must claim.
        source: Paper or other source.
        consent: What it does, as a hospital reads it before it approves a plan.
    """

    place: ClassVar[Place]
    when: ClassVar[When] = When.NEVER
    is_handed_out: ClassVar[bool] = False
    is_alone: ClassVar[bool] = True
    is_scored_with: ClassVar[bool] = False
    is_own_site_read: ClassVar[bool] = False
    claims: ClassVar[Claims] = frozenset()
    asks: ClassVar[Claims] = frozenset()
    source: ClassVar[str] = ""
    consent: ClassVar[str] = "it says nothing of itself"

    def refuse(self, plan: Plan) -> None:
        """Refuse a plan that the stage does not fit."""

    @property
    def noise(self) -> Mapping[str, float]:
        """Noise multiplier on its sums, by whom it hides: ``patient`` or ``site``."""
        return {}

    def unnamed(self) -> Stage:
        """Return it without settings that name a site, as a model's file shows it."""
        return self

    def alone(self) -> Stage:
        """Return it for one data holder by itself, which no sum over hospitals hides."""
        return self

    # ----- fitted by sums: before the rounds, or before each

    def fit(self, made: Made) -> SumStage[Any] | None:
        """Return what is fitted by sums over the sites; None where nothing is."""
        return None

    def most_numbers(self, made: Made) -> int:
        """Return about how many numbers an answer to a step of its sums has at most."""
        fit = self.fit(made)
        return 0 if fit is None else sum(v.size for v in fit.site_sums(0, (), {}).values())

    def first(self, sites: Sequence[str]) -> Arrays:
        """Return what the first step is sent, given the names of the sites."""
        return {}

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return this site's part of the sums of a step, over its training scans alone."""
        raise NotImplementedError

    def counts(self, at: AtSite) -> tuple[int, int]:
        """Return the examples and patients behind the sums."""
        return len(at.patients), at.n_subjects

    def take_out(self, at: AtSite, fitted: Arrays) -> None:
        """Use what was fitted at a site, where ``is_handed_out``; nothing of it leaves."""

    def write_fitted(self, made: Made, fitted: Arrays, folder: Path) -> None:
        """Write what was fitted into a run's folder at the server, where ``is_handed_out``."""

    # ----- what was fitted is used

    def finished(self, made: Made, fitted: Arrays) -> Weights:
        """Return the entries that the model ends with, where it is fitted after the rounds."""
        return {}

    def recorded(self, made: Made, fitted: Arrays) -> Mapping[str, Any]:
        """Return what a run's records say of what was fitted, where it is fitted after the test."""
        return {}

    def task(self, task: Task, fitted: Arrays) -> Task:
        """Return what is learned, as outputs are read under fitted parameters."""
        return task

    def image_change(self, made: Made, fitted: Arrays) -> ImageChange | None:
        """Return what is done to images under fitted parameters; None for nothing."""
        return None

    def refuse_fitted(self, made: Made, fitted: Arrays) -> None:
        """Refuse parameters that are not those of this stage (H21)."""

    def training(self, at: AtSite) -> AbstractContextManager[Term | None]:
        """Give what is added to the loss while a round is trained; None for nothing."""
        return nullcontext()

    def scoring(self, at: AtSite, split: Split) -> AbstractContextManager[bool]:
        """Change what the network does while a split is scored.

        Gives whether the very images that are scored were used for it.
        """
        return nullcontext(enter_result=False)

    # ----- privacy of patients in training

    def steps(self, train: TrainConfig, n_subjects: int) -> Steps | None:
        """Return the noised steps of a stretch of training; None where nothing is noised."""
        return None

    def batches(self, at: AtSite, order: Callable[[], str], phase: str) -> PrivateSteps | None:
        """Return where batches and gradients come from; None for the usual."""
        return None

    def refuse_spending(self, at: AtSite, steps: Steps | None) -> None:
        """Refuse to train a round that would spend more than is allowed (P31)."""

    def told(
        self, at: AtSite, leaving: Leaving, steps: Steps | None, metrics: Mapping[str, float]
    ) -> dict[str, float]:
        """Write down what an update costs, before it leaves; return the metrics that may leave."""
        return dict(metrics)

    # ----- the update, on its way out of the site and into the server

    def outgoing(self, at: AtSite, leaving: Leaving) -> Leaving:
        """Return the update after this stage."""
        return leaving

    def forms(
        self, received: Mapping[str, torch.Tensor], forms: Mapping[str, Form]
    ) -> Mapping[str, Form]:
        """Return the type and shape of each entry after this stage, given those before it."""
        return forms

    def incoming(self, update: Update, received: Weights) -> Update:
        """Return an update at the server as it was before this stage's ``outgoing``."""
        return update


def summed(terms: Sequence[LossTerm]) -> LossTerm | None:
    """Return the sum of what stages and strategy add to the loss; None where nothing is added."""
    if not terms:
        return None
    first, *others = terms

    def total(target: torch.Tensor) -> torch.Tensor:
        loss = first(target)
        for other in others:
            loss = loss + other(target)
        return loss

    return total


def fitted_stages(stages: Sequence[Stage], when: When) -> Iterator[tuple[int, Stage]]:
    """Yield the stages that are fitted at a time, with their numbers in the list."""
    return ((n, stage) for n, stage in enumerate(stages) if stage.when is when)

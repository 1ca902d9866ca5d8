"""The plan of an experiment: what every site and the server must agree on, as one value.

It travels as JSON. Whoever holds the same plan, the same data and the same seed ends with the same
weights, bit for bit on the CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Annotated, Any, Literal, TypedDict

from pydantic import PlainValidator

from fedmri.compatibility import incompatibilities
from fedmri.data.settings import DataConfig
from fedmri.errors import ConfigError, FedmriError, raise_all, require
from fedmri.models.image.cnn5 import CNN5
from fedmri.models.model import Model
from fedmri.models.registry import MODELS
from fedmri.privacy.conflicts import refuse_conflicts
from fedmri.privacy.settings import PrivacyConfig
from fedmri.round import Strategy, Target
from fedmri.secagg.conflicts import refuse_inspections
from fedmri.secagg.settings import SecAggConfig
from fedmri.settings.keys import checked_as
from fedmri.settings.rounds import RoundsConfig
from fedmri.stages.registry import as_list, made_stages, refuse_same_place
from fedmri.stages.stage import Place, Stage, When
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.registry import TASKS
from fedmri.tasks.task import Task
from fedmri.training.settings import TrainConfig


@dataclass(frozen=True)
class TransportConfig:
    """How a site's update travels to the server; the server sends whole weights in full.

    Attributes:
        update: The trained weights, or their difference from the received weights.
        dtype: Type of the update's matrices and kernels. Below ``fp32``, each site adds the
            rounding rests to its next update. It keeps them on its disk for each round.
    """

    update: Literal["weights", "difference"] = "weights"
    dtype: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"

    def __post_init__(self) -> None:
        if self.dtype == "int8" and self.update == "weights":
            found = "int8 of whole weights: a round changes most weights by less than one of 8 bits"
            want = "int8 of differences"
            fix = "set transport.update=difference, or transport.dtype=bf16"
            raise ConfigError("C30", "setting transport", found=found, want=want, fix=fix)


@dataclass(frozen=True)
class FilterConfig:
    """Which part of an update's change leaves a site; see ``fedmri.updates.filters``. No guarantee.

    Attributes:
        clip_norm: Largest L2 norm of the change of all parameters together; 0 bounds nothing.
        percentile: Values below this percentile of magnitude over all of the change are left out
            as zeros: 90 shares the largest tenth. 0 shares all.
    """

    clip_norm: float = 0.0
    percentile: float = 0.0

    def __post_init__(self) -> None:
        norm, percentile = self.clip_norm, self.percentile
        is_norm = norm >= 0 and math.isfinite(norm)
        require(is_norm, "filters.clip_norm", norm, "0 or more")
        require(0 <= percentile < 100, "filters.percentile", percentile, "0 to below 100")

    @property
    def is_on(self) -> bool:
        """Whether anything is filtered."""
        return self.clip_norm > 0 or self.percentile > 0


@dataclass(frozen=True)
class ReleaseConfig:
    """What the file of the finished model says, besides what is needed to use it.

    Attributes:
        is_naming_sites: Whether it names the sites that trained it. Else it holds their number.
        intended_use: What the model is meant for; empty says that it is for research alone.
    """

    is_naming_sites: bool = False
    intended_use: str = ""

    def __post_init__(self) -> None:
        most = 2000
        is_short = len(self.intended_use) <= most
        want = f"{most} characters at most"
        require(is_short, "release.intended_use", len(self.intended_use), want)


@dataclass(frozen=True)
class StartConfig:
    """What the server's first model starts from.

    Attributes:
        sha256: SHA-256 of a file of weights that the server has; sites do not need the file. Empty
            starts from seeded weights. Entries that the file lacks are seeded.
    """

    sha256: str = ""

    def __post_init__(self) -> None:
        is_hash = not self.sha256 or re.fullmatch("[0-9a-f]{64}", self.sha256) is not None
        require(is_hash, "start.sha256", self.sha256, "64 digits of 0-9 and a-f, or nothing")


class NetworkArguments(TypedDict):
    """What ``build_network`` must know of a plan besides its model settings."""

    target: Target
    n_dims: int
    n_channels: int
    shape: tuple[int, ...]
    seed: int
    n_covariates: int
    n_visits: int


@dataclass(frozen=True)
class Plan:
    """What is learned, from what, with which network, by which rule, for how long.

    Attributes:
        name: Name of the experiment; the run folder carries it.
        target: What is learned: a task, with settings of its own; the page of tasks lists them.
        seed: Start of every random draw: the split, the weights, the order of examples.
        model: Network, with settings of its own; the page of models lists them.
        stages: What is done to scans, embeddings or tables on their way, in order. Each has
            settings of its own; the page of stages lists them.
        strategy: Rule that combines updates, with settings of its own; the page of strategies
            lists them.
    """

    target: Annotated[Task, PlainValidator(TASKS.made)]
    name: str = "experiment"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    stages: Annotated[tuple[Stage, ...], PlainValidator(made_stages)] = ()
    model: Annotated[Model, PlainValidator(MODELS.made)] = field(default_factory=CNN5)
    start: StartConfig = field(default_factory=StartConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    strategy: Annotated[Strategy, PlainValidator(STRATEGIES.made)] = field(default_factory=FedAvg)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    secagg: SecAggConfig = field(default_factory=SecAggConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    release: ReleaseConfig = field(default_factory=ReleaseConfig)

    @property
    def n_channels(self) -> int:
        """Input channels of the network: modalities of each visit, times neighbouring slices."""
        prepare = self.data.prepare
        n_slices = 2 * prepare.n_neighbours + 1 if prepare.dimension == "2.5d" else 1
        return len(self.data.source.channels) * n_slices

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of what the network sees, in voxels; 0 where the data decide."""
        if self.data.sample.patch:
            return self.data.sample.patch
        prepare = self.data.prepare
        cropped = list(prepare.shape)
        if prepare.dimension != "3d":
            # A first number of 0 says that the other two are the size within the plane.
            del cropped[prepare.slice_axis if cropped[0] else 0]
        resampled = prepare.size or (0,) * len(cropped)
        return tuple(crop or size for crop, size in zip(cropped, resampled, strict=True))

    @property
    def network(self) -> NetworkArguments:
        """What the network must fit; ``build_network(plan.model, **plan.network)``."""
        return {
            "target": self.target,
            "n_dims": len(self.shape),
            "n_channels": self.n_channels,
            "shape": self.shape,
            "seed": self.seed,
            "n_covariates": sum(one.n_entries for one in self.data.source.declared),
            "n_visits": self.data.source.visits,
        }

    def __post_init__(self) -> None:
        raise_all(self._problems())

    def _problems(self) -> Iterator[FedmriError]:
        """Yield all that does not go together, so that its author reads it at once."""
        inspections = self._inspections if self.secagg.is_on else []
        checks: tuple[Callable[[], None], ...] = (
            lambda: _refuse_unfiltered(self.filters, self.transport),
            lambda: refuse_same_place(self.stages),
            *(partial(stage.refuse, self) for stage in self.stages),
            lambda: refuse_conflicts(self.privacy, self.train, self.data),
            lambda: _refuse_covariates(self.data, self.target),
            lambda: self.data.source.refuse_unfit(self.target),
            lambda: _refuse_visits(self),
            lambda: self.data.sample.refuse_unfit(self.target, self.data.prepare),
            lambda: refuse_inspections(inspections),
            lambda: _refuse_late(self),
        )
        for check in checks:
            try:
                check()
            except FedmriError as error:
                yield error
        yield from incompatibilities(self)

    @property
    def kind(self) -> str:
        """Kind of what is learned, as ``target.kind`` names it."""
        return TASKS.name_of(self.target)

    @property
    def is_ended_by_sums(self) -> bool:
        """Whether it ends with what a stage fitted, and trains no network."""
        return any(stage.is_handed_out for stage in self.stages)

    @property
    def is_for_tables(self) -> bool:
        """Whether it is about tables of features, and opens no scan."""
        return any(stage.place is Place.TABLE for stage in self.stages)

    @property
    def is_patient_hidden(self) -> bool:
        """Whether noise for a patient is on all that is learned: on its steps, or on its sums."""
        is_noised = any("patient" in stage.noise for stage in self.stages)
        return self.privacy.is_on or (is_noised and self.rounds.n_rounds == 0)

    @property
    def _inspections(self) -> list[str]:
        """Settings that need more of a single site than its part of a sum."""
        rounds, is_whole = self.rounds, self.transport == TransportConfig()
        asked = {
            "rounds.is_late_join_allowed": rounds.is_late_join_allowed,
            "rounds.close_at below 1, or rounds.late=added,": rounds.is_late_possible,
            "transport, which rounds each update by itself,": not is_whole,
        }
        return [name for name, is_set in asked.items() if is_set]

    @property
    def sgd_momentum(self) -> float:
        """Momentum of the sites' SGD; 0 under other optimizers."""
        return self.train.momentum if self.train.optimizer == "sgd" else 0.0

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the plan's JSON."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()


def _refuse_unfiltered(filters: FilterConfig, transport: TransportConfig) -> None:
    """Refuse to filter an update that is rounded on its way (C31)."""
    if filters.is_on and transport.dtype != "fp32":
        found = f"transport.dtype={transport.dtype}, which adds what it rounded off a round later"
        fix = "set transport.dtype=fp32, or filters.clip_norm=0 filters.percentile=0"
        raise ConfigError("C31", "setting filters", found=found, want="fp32", fix=fix)


def _refuse_late(plan: Plan) -> None:
    """Refuse late updates where a round's order is more than the model at that time (C03)."""
    if not plan.rounds.is_late_possible:
        return
    asked = {
        "parts that thaw in a later round": plan.train.is_thawing,
        "a stage that is fitted before each round": any(
            stage.when is When.BEFORE_EACH_ROUND for stage in plan.stages
        ),
    }
    if found := "; ".join(name for name, is_set in asked.items() if is_set):
        what, want = "rounds that do not wait for all", "orders that hold the model alone"
        fix = "set rounds.close_at=1 rounds.late=dropped, or leave the other out"
        raise ConfigError("C03", what, found=found, want=want, fix=fix)


def _refuse_covariates(data: DataConfig, target: Task) -> None:
    """Refuse covariates that give the answer away, or that would not fit mixed images (C03)."""
    what, names = "setting data.source.covariates", [one.name for one in data.source.declared]
    if told := [name for name in names if name in target.columns]:
        found, want = f"{told[0]}, which is predicted", "other columns than those of the target"
        raise ConfigError("C03", what, found=found, want=want, fix=f"leave {told[0]} out")
    if names and (data.augment.mixup or data.augment.cutmix):
        found, want = "mixed images of two patients, whose rows are not mixed", "images of one"
        fix = "set data.augment.mixup=0 data.augment.cutmix=0"
        raise ConfigError("C03", what, found=found, want=want, fix=fix)


def _refuse_visits(plan: Plan) -> None:
    """Refuse visits that are no whole volumes of one size with one answer (C03)."""
    prepare = plan.data.prepare
    is_one = plan.data.source.visits == 1
    is_volume = prepare.dimension == "3d" and all(plan.shape) and plan.target.answer == "image"
    if not (is_one or is_volume):
        what, want = "setting data.source.visits", "volumes of one size, and one answer a patient"
        found = f"{prepare.dimension} of {plan.shape}, {plan.target.title}"
        fix = "set data.prepare.dimension=3d with size or shape, and a target of the patient"
        raise ConfigError("C03", what, found=found, want=want, fix=fix)


def to_dict(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain values that ``from_dict`` takes."""
    parts = {
        "target": TASKS.as_dict(plan.target),
        "model": MODELS.as_dict(plan.model),
        "strategy": STRATEGIES.as_dict(plan.strategy),
        "stages": as_list(plan.stages),
    }
    return {**asdict(plan), **parts}


def to_json(plan: Plan) -> str:
    """Return the plan as canonical JSON: equal plans give equal text."""
    return json.dumps(to_dict(plan), sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=8)
def from_json(text: str) -> Plan:
    """Return the plan of a JSON text."""
    return from_dict(json.loads(text))


def from_dict(values: dict[str, Any]) -> Plan:
    """Return the plan of nested dictionaries.

    Raises:
        pydantic.ValidationError: A value has the wrong type.
        ConfigError: A value has the right type but cannot be taken (C01).
    """
    return checked_as(Plan).validate_python(values)

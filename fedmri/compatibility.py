"""What goes with what: the claims of parts matched with what a plan wants of them.

A door is a mechanism of a plan that is safe only with parts that claim something. A part that does
not claim it is refused, whatever it is: nobody has to know its name. The table of the documents is
made of the same doors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedmri.claims import Claim, Need, claims_of, needs_of
from fedmri.errors import ConfigError, FedmriError, PrivacyError
from fedmri.models.registry import MODELS
from fedmri.parts import Registry
from fedmri.stages.registry import STAGES
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.registry import TASKS

if TYPE_CHECKING:
    from fedmri.plan import Plan


@dataclass(frozen=True)
class Door:
    """A mechanism, and what it wants of a part.

    Attributes:
        mechanism: What the plan has, in words.
        is_there: Whether a plan has it.
        section: Section of the settings whose part is asked: ``strategy``, ``model``, ``target``,
            or ``stages``, each of which is asked.
        claim: What the part must claim.
        error: Kind of error, by what the message says.
        code: Its code.
        fix: How to put it right.
    """

    mechanism: str
    is_there: Callable[[Plan], bool]
    section: str
    claim: Claim
    error: type[FedmriError]
    code: str
    fix: str


_REGISTRIES: dict[str, Registry[Any]] = {
    "strategy": STRATEGIES,
    "model": MODELS,
    "target": TASKS,
    "stages": STAGES,
}
_NO_STAGE = "leave the stage out, or choose one that claims it"

DOORS = (
    Door(
        "secure aggregation",
        lambda plan: plan.secagg.is_on,
        "strategy",
        Claim.SUM_IS_ENOUGH,
        PrivacyError,
        "P57",
        "set strategy=fedavg, or secagg.is_on=false",
    ),
    Door(
        "noise for a whole hospital",
        lambda plan: plan.privacy.site.is_on,
        "strategy",
        Claim.MODEL_ALONE,
        PrivacyError,
        "P67",
        "set strategy=lgfedavg or fedavg, or privacy.site.noise_multiplier=0",
    ),
    Door(
        "rounds that do not wait for all",
        lambda plan: plan.rounds.is_late_possible,
        "strategy",
        Claim.LATE_IS_FINE,
        ConfigError,
        "C03",
        "set strategy=fedavg, or rounds.close_at=1 rounds.late=dropped",
    ),
    Door(
        "filters of updates",
        lambda plan: plan.filters.is_on,
        "strategy",
        Claim.MODEL_ALONE,
        ConfigError,
        "C31",
        "set strategy=fedavg, or filters.clip_norm=0 filters.percentile=0",
    ),
    Door(
        "parts that thaw in a later round",
        lambda plan: any(first > 1 for first in plan.train.thaws.values()),
        "strategy",
        Claim.MODEL_ALONE,
        ConfigError,
        "C03",
        "set strategy=fedavg, or train.frozen without rounds",
    ),
    Door(
        "differential privacy of patients",
        lambda plan: plan.privacy.is_on,
        "strategy",
        Claim.BLIND_TO_PATIENTS,
        PrivacyError,
        "P32",
        "set strategy=fedprox or fedavg, or privacy.noise_multiplier=0",
    ),
    Door(
        "differential privacy of patients",
        lambda plan: plan.privacy.is_on,
        "model",
        Claim.PATIENTS_APART,
        PrivacyError,
        "P32",
        "set model.norm=group, or privacy.noise_multiplier=0",
    ),
    Door(
        "differential privacy of patients",
        lambda plan: plan.privacy.is_on,
        "target",
        Claim.PATIENTS_APART,
        PrivacyError,
        "P32",
        "set target.loss=auto or another task, or privacy.noise_multiplier=0",
    ),
    Door(
        "secure aggregation",
        lambda plan: plan.secagg.is_on,
        "stages",
        Claim.SUM_IS_ENOUGH,
        PrivacyError,
        "P57",
        f"{_NO_STAGE}, or set secagg.is_on=false",
    ),
    Door(
        "noise for a whole hospital",
        lambda plan: plan.privacy.site.is_on,
        "stages",
        Claim.UPDATE_UNTOUCHED,
        PrivacyError,
        "P67",
        f"{_NO_STAGE}, or set privacy.site.noise_multiplier=0",
    ),
    Door(
        "filters of updates",
        lambda plan: plan.filters.is_on,
        "stages",
        Claim.UPDATE_UNTOUCHED,
        ConfigError,
        "C31",
        f"{_NO_STAGE}, or set filters.clip_norm=0 filters.percentile=0",
    ),
    Door(
        "differential privacy of patients",
        lambda plan: plan.privacy.is_on,
        "stages",
        Claim.BLIND_TO_PATIENTS,
        PrivacyError,
        "P32",
        f"{_NO_STAGE}, or set privacy.noise_multiplier=0",
    ),
    Door(
        "covariates beside images",
        lambda plan: bool(plan.data.source.declared),
        "model",
        Claim.READS_COVARIATES,
        ConfigError,
        "C03",
        "set model=image_table_fusion or model=visit_rnn, or leave covariates and visits out",
    ),
)
"""Every mechanism that asks a claim of a part."""


def incompatibilities(plan: Plan) -> Iterator[FedmriError]:
    """Yield parts of a plan that do not go with its mechanisms, or that lack what they need.

    Yields:
        ConfigError: Filters want another part (C31), or the plan
            does not have what a part needs, or the strategy not what a stage asks (C03).
        PrivacyError: Privacy or secure aggregation wants another part (P32, P57, P67).
    """
    for door in DOORS:
        for part in _asked(plan, door.section):
            if door.is_there(plan) and door.claim not in claims_of(part):
                yield _refusal(door, part)
    yield from _unclaimed(plan)
    for section in ("strategy", "model"):
        part, registry = getattr(plan, section), _REGISTRIES[section]
        for need, is_met, found, fix in _NEEDS:
            if need in needs_of(part) and not is_met(plan):
                what = f"{section} {registry.name_of(part)}"
                yield ConfigError("C03", what, found=found(plan), want=need.value, fix=fix)


def goes_with(section: str, part: object) -> dict[str, bool]:
    """Return with which mechanisms a part goes, for the tables of the documents."""
    asked: dict[str, bool] = {}
    for door in (door for door in DOORS if door.section == section):
        asked[door.mechanism] = door.claim in claims_of(part)
    return asked


def _asked(plan: Plan, section: str) -> Sequence[object]:
    """Return the parts of a section of the settings."""
    return plan.stages if section == "stages" else (getattr(plan, section),)


def _refusal(door: Door, part: Any) -> FedmriError:
    registry: Registry[Any] = _REGISTRIES[door.section]
    kind = registry.kind.removesuffix("s")
    found = f"{kind} {registry.name_of(part)}, {door.claim.value}"
    want = f"a {kind} that claims the contrary"
    return door.error(door.code, door.mechanism, found=found, want=want, fix=door.fix)


def _unclaimed(plan: Plan) -> Iterator[ConfigError]:
    """Yield what a stage asks of the strategy that it does not claim (C03)."""
    for stage in plan.stages:
        for claim in stage.asks - claims_of(plan.strategy):
            name = STRATEGIES.name_of(plan.strategy)
            yield ConfigError(
                "C03",
                f"stage {STAGES.name_of(stage)}",
                found=f"strategy {name}, {claim.value}",
                want="a strategy that claims the contrary",
                fix="choose another stage, such as harmonize=coral; or set strategy=fedavg",
            )


def _is_plain_sgd(plan: Plan) -> bool:
    train = plan.train
    return train.optimizer == "sgd" and not train.momentum and not train.clip_grad_norm


def _optimizer(plan: Plan) -> str:
    train = plan.train
    return f"{train.optimizer}, momentum {train.momentum:g}, clip {train.clip_grad_norm:g}"


def _on_embeddings(plan: Plan) -> list[str]:
    """Return what of a plan leaves no embedding of an image to work on."""
    asked = {
        f"{plan.target.title}, whose networks answer each voxel": plan.target.answer == "voxel",
    }
    return [name for name, is_set in asked.items() if is_set]


_NEEDS: tuple[tuple[Need, Callable[[Plan], bool], Callable[[Plan], str], str], ...] = (
    (
        Need.PLAIN_SGD,
        _is_plain_sgd,
        _optimizer,
        "set train.optimizer=sgd train.momentum=0 train.clip_grad_norm=0",
    ),
    (
        Need.KEPT_ADAM,
        lambda plan: plan.train.is_optimizer_kept and plan.train.optimizer in ("adam", "adamw"),
        lambda plan: f"{plan.train.optimizer}, kept: {plan.train.is_optimizer_kept}",
        "set train.optimizer=adamw train.is_optimizer_kept=true",
    ),
    (
        Need.EMBEDDING,
        lambda plan: not _on_embeddings(plan),
        lambda plan: "; ".join(_on_embeddings(plan)),
        "set strategy=fedprox, or leave the other out",
    ),
    (
        Need.COVARIATES,
        lambda plan: bool(plan.data.source.covariates),
        lambda _: "none",
        "set data.source.covariates, such as [age:50/20,sex:F|M], or take another model",
    ),
    (
        Need.VISITS,
        lambda plan: plan.data.source.visits > 1,
        lambda plan: str(plan.data.source.visits),
        "set data.source.visits, such as 3, or take another model",
    ),
)
"""What a strategy or model may need of the plan: is it met, what was found, how to put it right."""


_SIDE = re.compile(r"(?<![a-z])(left|right|lh|rh)(?![a-z])", re.IGNORECASE)
"""The name of a side in the name of an answer."""


def plan_advice(plan: Plan) -> tuple[str, ...]:
    """Return what of a plan's settings is allowed but seldom meant, a line each."""
    optimizer, needs = plan.train.optimizer, needs_of(plan.strategy)
    name = f"strategy={STRATEGIES.name_of(plan.strategy)}"
    found = []
    if Need.COUNTED_STEPS in needs and optimizer != "sgd":
        why = f"{name} counts steps of SGD; those of {optimizer} are of another length."
        found.append(
            f"{why} Set train.optimizer=sgd, or train.local_steps for the same at all sites."
        )
    if Need.KEPT_OPTIMIZER in needs and not plan.train.is_optimizer_kept:
        why = f"{name} is made for sites that keep their optimizer's state."
        found.append(f"{why} Set train.is_optimizer_kept=true.")
    sided = [one for one in plan.target.outputs if _SIDE.search(one)]
    if sided and (plan.data.augment.flip or plan.data.is_mirrored):
        why = f"{sided[0]} names a side, and a mirror image of the left looks like the right."
        found.append(f"{why} Set data.augment.flip=0 data.is_mirrored=false.")
    if plan.privacy.is_on and plan.rounds.select == "best":
        why = "rounds.select=best follows validation scores, which leave sites without noise."
        found.append(f"{why} Set rounds.select=last.")
    return tuple(found)

"""What stages of answers share: under their parameters a task reads a network's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import ConfigError
from fedmri.harmonize.sums import Arrays
from fedmri.stages.stage import Place, Stage

if TYPE_CHECKING:
    from fedmri.tasks.task import Task

SUMS_OF_ANSWERS: Claims = frozenset({Claim.SUM_IS_ENOUGH, Claim.UPDATE_UNTOUCHED})
"""Claims of a stage that is fitted once, by sums over what is true of patients."""


class OnAnswers(Stage):
    """A stage of answers; what is fitted goes with every order that a model is scored by."""

    place: ClassVar[Place] = Place.ANSWERS
    is_scored_with: ClassVar[bool] = True


def no_fit(stage: str, task: Task, want: str) -> ConfigError:
    """Return the error of a task whose answers a stage cannot be for (C03)."""
    fix = "leave the stage out"
    return ConfigError("C03", f"stage {stage}", found=f"a {task.title}", want=want, fix=fix)


def task_under(task: Task, stages: Mapping[str, Stage], fitted: Mapping[str, Arrays]) -> Task:
    """Return a task as the stages leave it that are fitted.

    Args:
        task: The plan's.
        stages: Stages by name, in their order.
        fitted: Parameters by the name of a stage; one that has none changes nothing.
    """
    for name, stage in stages.items():
        if name in fitted:
            task = stage.task(task, fitted[name])
    return task

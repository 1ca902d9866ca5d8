"""Scale of a regression's target: mean and standard deviation over all hospitals' patients."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claims
from fedmri.errors import HarmonizeError
from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_answers import SUMS_OF_ANSWERS, OnAnswers, no_fit
from fedmri.stages.stage import AtSite, Made, When
from fedmri.tasks.task import Scaled, Task, single

if TYPE_CHECKING:
    from fedmri.harmonize.target_moments import TargetMoments
    from fedmri.plan import Plan


@dataclass(frozen=True)
class TargetScale(OnAnswers):
    """A regression learns in standard deviations from the mean of all training patients.

    The settings ``target.centre`` and ``target.scale`` are a first guess. A patient counts as
    ``target.max_error`` scales from the centre at most, so that no sum is one patient's.
    """

    when: ClassVar[When] = When.BEFORE_ROUNDS
    is_alone: ClassVar[bool] = False
    claims: ClassVar[Claims] = SUMS_OF_ANSWERS
    source: ClassVar[str] = "the pooled mean and standard deviation, by exact sums over sites"
    consent: ClassVar[str] = "number of training patients, sum and sum of squares of their target"

    def refuse(self, plan: Plan) -> None:
        """Refuse a target that has no scale (C03)."""
        scaled(plan.target)

    def fit(self, made: Made) -> TargetMoments:
        """Return the sums of the target."""
        from fedmri.harmonize.target_moments import TargetMoments

        task = scaled(made.plan.target)
        return TargetMoments(task.centre, task.scale, task.max_error)

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return this site's sums; a patient of several scans counts once."""
        values: dict[tuple[str, str], list[float]] = defaultdict(list)
        for example in at.data.examples("train"):
            values[example.site, example.subject].append(single(example.target))
        own = [sum(found) / len(found) for found in values.values()]
        return self.fit(at.made).site_sums(step, own, shared)

    def refuse_fitted(self, made: Made, fitted: Arrays) -> None:
        """Refuse parameters that are no centre and scale (H21)."""
        from fedmri.harmonize.target_moments import CENTRE, SCALE

        found = {name: values.shape for name, values in fitted.items()}
        if found != {CENTRE: (1,), SCALE: (1,)} or not fitted[SCALE][0] > 0:
            fix = "run the same version of fedmri as the server"
            what, want = "parameters of target_scale", "a centre and a positive scale"
            raise HarmonizeError("H21", what, found=f"{found}", want=want, fix=fix)

    def task(self, task: Task, fitted: Arrays) -> Task:
        """Return the task in the units of all patients."""
        from fedmri.harmonize.target_moments import CENTRE, SCALE

        return scaled(task).scaled(float(fitted[CENTRE][0]), float(fitted[SCALE][0]))


def scaled(task: Task) -> Scaled:
    """Return a task whose target has a scale, or refuse it (C03)."""
    if isinstance(task, Scaled):
        return task
    raise no_fit("target_scale", task, "a regression, whose target has a centre and a scale")

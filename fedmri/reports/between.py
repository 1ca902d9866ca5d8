"""Several runs side by side: each one's first model, and differences over the same patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedmri.errors import UsageError
from fedmri.evaluate.comparisons.paired import holm
from fedmri.evaluate.estimate import Estimate
from fedmri.reports import models
from fedmri.reports.elsewhere import estimate_of_sum, inside_of
from fedmri.reports.models import Model
from fedmri.reports.results import Results, n_trials_of
from fedmri.reports.statistics.metrics import Measured
from fedmri.reports.statistics.scoring import Scorer
from fedmri.reports.statistics.verdicts import Verdict, judge


@dataclass(frozen=True)
class Beside:
    """One run beside the first.

    Attributes:
        name: Of the run folder.
        label: Its first model.
        score: Primary metric over its own test patients.
        difference: Minus the first run's, over patients that both tested; None for the first run.
        p_value: Two-sided, of no difference.
        p_adjusted: Adjusted for all runs (Holm).
        verdict: What is shown.
        n_trials: Settings that were tried for it; with unequal numbers the one with more gains.
    """

    name: str
    label: str
    score: Estimate
    difference: Estimate | None = None
    p_value: float = math.nan
    p_adjusted: float = math.nan
    verdict: Verdict = "cannot be said"
    n_trials: int = 1


def beside(runs: Sequence[Results], task: Measured) -> tuple[Beside, ...]:
    """Return each run, and how it differs from the first over patients that both tested.

    Raises:
        UsageError: Two runs have no test patient in common (U14).
    """
    scorer = Scorer(task, 2000, 0)
    firsts = [_named(models.compared(run)[0], number) for number, run in enumerate(runs)]
    names = [run.run.resolve().name for run in runs]
    reference, found = firsts[0], []
    for name, model, run in zip(names, firsts, runs, strict=True):
        label = model.group.arms[0]
        score = scorer.primary(model, inside_of(model)).estimate
        one = Beside(name, label, score, n_trials=n_trials_of(run.run))
        if model is not reference:
            shared = models.common(inside_of(model), inside_of(reference))
            if not shared:
                fix = "compare runs of the same data, seed and split"
                want, what = "patients of the first run", f"test patients of {name}"
                raise UsageError("U14", what, found="none of them", want=want, fix=fix)
            contrast = scorer.primary(model, shared).minus(scorer.primary(reference, shared))
            one = replace(one, difference=estimate_of_sum(contrast), p_value=contrast.p_value)
        found.append(one)
    adjusted = iter(holm([one.p_value for one in found[1:]]))
    return (found[0], *(_judged(one, next(adjusted), task) for one in found[1:]))


def _named(model: Model, number: int) -> Model:
    """Return a model with a name of its own: a scorer knows models by their names."""
    return replace(model, group=replace(model.group, label=f"{number}: {model.label}"))


def _judged(one: Beside, p: float, task: Measured) -> Beside:
    if one.difference is None:
        return one
    value, n = one.difference.value, one.difference.n_subjects
    verdict = judge(value, p, n, is_higher_better=task.is_higher_better)
    return replace(one, p_adjusted=p, verdict=verdict)

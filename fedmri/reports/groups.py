"""Scores of a run by sex, age, scanner or field: each group beside all other test patients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedmri.evaluate.comparisons.paired import holm
from fedmri.evaluate.estimate import Estimate
from fedmri.reports import models
from fedmri.reports.elsewhere import estimate_of_sum, inside_of
from fedmri.reports.models import Model
from fedmri.reports.results import Results
from fedmri.reports.statistics.contrast import Key
from fedmri.reports.statistics.intervals import Patients
from fedmri.reports.statistics.metrics import Measured
from fedmri.reports.statistics.scoring import Scorer
from fedmri.reports.statistics.verdicts import Verdict, judge


@dataclass(frozen=True)
class GroupScore:
    """Test patients who have something in common.

    Attributes:
        column: What they were grouped by, such as ``sex``.
        group: Such as ``F``.
        score: Primary metric over them.
        against_rest: Group minus all other test patients; None where there are none.
        p_adjusted: Of no difference, adjusted for all groups that were looked at (Holm).
        verdict: What is shown of the group against the rest.
    """

    column: str
    group: str
    score: Estimate
    against_rest: Estimate | None = None
    p_adjusted: float = math.nan
    verdict: Verdict = "cannot be said"


def group_scores(
    results: Results, task: Measured, columns: Mapping[str, Mapping[Key, str]]
) -> tuple[GroupScore, ...]:
    """Return the first model's score of every group of every column.

    Args:
        results: Of a run.
        task: Its task.
        columns: Group of each patient, by site and subject, by the name of the column.
    """
    model, scorer = models.compared(results)[0], Scorer(task, 2000, 0)
    every = inside_of(model)
    found, p_values = list[GroupScore](), list[float]()
    for column, group_of in columns.items():
        for group in sorted({group_of[site, who] for site, names in every for who in names}):
            own, rest = (_only(every, group_of, group, is_in=is_in) for is_in in (True, False))
            one, p_value = _compared(model, scorer, own, rest)
            found.append(replace(one, column=column, group=group))
            p_values.append(p_value)
    return tuple(_judged(one, p, task) for one, p in zip(found, holm(p_values), strict=True))


def _compared(
    model: Model, scorer: Scorer, own: Patients, rest: Patients
) -> tuple[GroupScore, float]:
    score = scorer.primary(model, own)
    if not rest:
        return GroupScore("", "", score.estimate), math.nan
    contrast = score.contrast.minus(scorer.primary(model, rest).contrast)
    return GroupScore("", "", score.estimate, estimate_of_sum(contrast)), contrast.p_value


def _judged(one: GroupScore, p: float, task: Measured) -> GroupScore:
    if one.against_rest is None:
        return one
    # a verdict rests on the smaller side
    n = min(one.score.n_patients, one.against_rest.n_patients - one.score.n_patients)
    verdict = judge(one.against_rest.value, p, n, is_higher_better=task.is_higher_better)
    return replace(one, p_adjusted=p, verdict=verdict)


def _only(every: Patients, group_of: Mapping[Key, str], group: str, *, is_in: bool) -> Patients:
    kept = (
        (site, tuple(who for who in names if (group_of[site, who] == group) is is_in))
        for site, names in every
    )
    return tuple(entry for entry in kept if entry[1])

"""Scores of a run by sex, age, scanner or field: each group beside all other test patients."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedmri.data.scans import number
from fedmri.errors import UsageError
from fedmri.evaluate.comparisons.paired import holm
from fedmri.evaluate.comparisons.subgroups import age_bands
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

NOT_KNOWN = "not known"
GROUPS = "groups.json"
"""File of a run folder: cells of ``PLANNED`` columns by column, site and patient."""
PLANNED: Mapping[str, str] = {
    **dict.fromkeys(("sex", "gender"), ""),
    **dict.fromkeys(("age", "age_years"), "40|60"),
    **dict.fromkeys(("scanner", "scanner_model", "manufacturer"), ""),
    **dict.fromkeys(("field_tesla", "field_strength", "magnetic_field_strength"), ""),
}
"""Columns by which every report groups patients, with the edges of bands of numbers. They were
chosen before any result was seen."""
MOST_GROUPS = 8
"""A column of more is left out of the report: each group makes all verdicts harder to reach."""

Cells = Mapping[Key, str]
"""Cell of each patient, by site and subject."""


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


def planned_groups(run: Path, task: Measured, tested: Patients) -> dict[str, Cells]:
    """Return the group of each tested patient by each planned column that divides them.

    A column that is learned, or that nobody or everybody shares, tells nothing.

    Args:
        run: Folder of a run; one of before has no file of columns.
        task: Its task.
        tested: Patients that are grouped.
    """
    path = run / GROUPS
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    grouped: dict[str, Cells] = {}
    for name, edges in PLANNED.items():
        if name in found and name not in task.columns:
            cells = found[name]
            own = {
                (site, who): cells.get(site, {}).get(who, "")
                for site, names in tested
                for who in names
            }
            groups = in_groups(own, edges)
            if 2 <= len(set(groups.values())) <= MOST_GROUPS:
                grouped[name] = groups
    return grouped


def in_groups(cells: Cells, edges: str) -> dict[Key, str]:
    """Return the group of each patient: its cell, or the band that its number is in.

    Args:
        cells: Of one column, as text.
        edges: Ascending numbers with ``|`` between them; empty takes cells as they are.

    Raises:
        UsageError: Edges are no numbers (U01).
    """
    if not edges:
        return {key: cell.strip() or NOT_KNOWN for key, cell in cells.items()}
    try:
        limits = [float(edge) for edge in edges.split("|")]
    except ValueError:
        want, fix = "numbers with | between them, ascending", "write --by 'age:40|60'"
        raise UsageError("U01", "--by", found=edges, want=want, fix=fix) from None
    return {key: _band(number(cell), limits) for key, cell in cells.items()}


def _band(value: float, limits: list[float]) -> str:
    return NOT_KNOWN if math.isnan(value) else str(age_bands(np.array([value]), limits)[0])


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
    n = min(one.score.n_subjects, one.against_rest.n_subjects - one.score.n_subjects)
    verdict = judge(one.against_rest.value, p, n, is_higher_better=task.is_higher_better)
    return replace(one, p_adjusted=p, verdict=verdict)


def _only(every: Patients, group_of: Mapping[Key, str], group: str, *, is_in: bool) -> Patients:
    kept = (
        (site, tuple(who for who in names if (group_of[site, who] == group) is is_in))
        for site, names in every
    )
    return tuple(entry for entry in kept if entry[1])

"""What decides a verdict: the one place of the rules by which a difference is called."""

from __future__ import annotations

import math
from typing import Literal

from fedmri.evaluate.comparisons.gap import LEAST_PATIENTS, LIMIT, verdict_of
from fedmri.reports.statistics.intervals import Estimate
from fedmri.reports.statistics.metrics import Metric
from fedmri.reports.statistics.spread import LEVEL

Verdict = Literal["better", "worse", "no difference shown", "cannot be said"]

LEAST_PAIRS = 6
"""With fewer pairs no sign test reaches 5 % (2 / 2**5 is 6 %), whatever an interval says."""
ENOUGH_TRAININGS = 5
"""A verdict from fewer trainings is one of these trainings, and says so."""


def judge(value: float, p_adjusted: float, n_subjects: int, *, is_higher_better: bool) -> Verdict:
    """Return what a difference shows, by its p-value adjusted for all comparisons of the table.

    Args:
        value: First minus second.
        p_adjusted: By Holm; NaN where the spread of the difference is not known.
        n_subjects: Patients of both.
        is_higher_better: Direction of the metric.
    """
    if not math.isfinite(p_adjusted) or n_subjects < LEAST_PAIRS:
        return "cannot be said"
    if p_adjusted > 1 - LEVEL + 1e-12:
        return "no difference shown"
    return "better" if (value > 0) == is_higher_better else "worse"


def is_of_few_trainings(n_trainings: int) -> bool:
    """Whether a verdict speaks of the trainings that there were, and not of training as such."""
    return n_trainings < ENOUGH_TRAININGS


def gap_verdict(lost: Estimate, n_outside: int, metric: Metric) -> str:
    """Return whether ten percentage points are lost at sites that did not take part."""
    if not metric.is_unit:
        return "no limit is set for this metric"
    if not lost.has_interval or n_outside < LEAST_PATIENTS:
        return f"inconclusive: fewer than {LEAST_PATIENTS} patients or no interval"
    points = f"{100 * LIMIT:.0f} percentage points"
    return {
        "pass": f"pass: less than {points} are lost",
        "fail": f"fail: more than {points} are lost",
        "inconclusive": f"inconclusive: the interval of the loss holds {points}",
    }[verdict_of(lost.low, lost.high, n_outside)]

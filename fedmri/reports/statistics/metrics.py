"""Every metric that a report shows: name, unit, range, direction, decimals, and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

from fedmri.reports.statistics import bounds, influence, weighted
from fedmri.reports.statistics.bounds import Method
from fedmri.reports.statistics.influence import Influence, Part
from fedmri.reports.statistics.weighted import Panel, Weighted


@dataclass(frozen=True)
class Metric:
    """One metric and all that differs between metrics.

    Attributes:
        name: As the task calls it.
        title: As it is written in a text.
        low: Least possible value.
        high: Largest possible value.
        is_higher_better: Direction.
        weighted: Under weights of patients; None for the mean of the patients' own scores.
        influence: What each patient moves it by; None for the mean of the patients' own scores.
        method: Its interval; None where it has none (counts).
        unit: ``mm``, or empty: of no unit or that of the target.
        decimals: Digits after the point; None lets the size of the number decide.
        is_patient_mean: Whether it is the mean of a score that each patient has.
        is_by_class: Whether patients of different classes are strata of their own.
        is_discrete: Whether one patient moves it by steps, so that few pairs say little.
        is_root: Whether it is the root of a mean over patients.
    """

    name: str
    title: str
    low: float
    high: float
    is_higher_better: bool
    method: Method | None
    weighted: Weighted | None = None
    influence: Influence | None = None
    unit: str = ""
    decimals: int | None = None
    is_patient_mean: bool = False
    is_by_class: bool = False
    is_discrete: bool = False
    is_root: bool = False

    @property
    def is_unit(self) -> bool:
        """Whether it lies between 0 and 1 with 1 best: judged in percentage points."""
        return (self.low, self.high, self.is_higher_better) == (0.0, 1.0, True)

    @property
    def is_count(self) -> bool:
        """Whether it is a number of cases, summed over patients."""
        return self.name.startswith("n_")


UP, DOWN = True, False
_OVERLAP = partial(bounds.bounded_mean, low=0.0, high=1.0, failure=0.0, unseen=0.3)
FAILED_HD95_MM = 374.0
"""HD95 of a missed lesion, the default of ``task.missed_hd95_mm``: what a failure costs."""

_ALL = (
    Metric("dice", "Dice", 0, 1, UP, _OVERLAP, is_patient_mean=True),
    Metric("jaccard", "Jaccard index", 0, 1, UP, _OVERLAP, is_patient_mean=True),
    Metric(
        "hd95_mm", "HD95 (mm)", 0, math.inf, DOWN,
        partial(bounds.positive_mean, failure=FAILED_HD95_MM, unseen=0.5), unit="mm",
        is_patient_mean=True,
    ),
    Metric(
        "accuracy", "accuracy", 0, 1, UP, bounds.proportion, weighted.accuracy,
        influence.accuracy, is_patient_mean=True, is_discrete=True,
    ),
    Metric(
        "balanced_accuracy", "balanced accuracy", 0, 1, UP, bounds.recall_mean,
        weighted.balanced_accuracy, influence.recalls, is_discrete=True,
    ),
    Metric(
        "macro_f1", "macro F1", 0, 1, UP, bounds.f1_mean, weighted.macro_f1,
        influence.f1_scores, is_discrete=True,
    ),
    Metric(
        "auc", "AUC", 0, 1, UP, bounds.area_mean, weighted.roc_auc, influence.areas,
        is_by_class=True,
    ),
    Metric(
        "brier", "Brier score", 0, 2, DOWN,
        partial(bounds.bounded_mean, low=0.0, high=2.0, failure=2.0, unseen=0.05),
        weighted.brier, influence.brier, is_patient_mean=True,
    ),
    Metric(
        "mae", "mean absolute error", 0, math.inf, DOWN,
        partial(bounds.positive_mean, unseen=0.1), weighted.mae, influence.absolute_errors,
        is_patient_mean=True,
    ),
    Metric(
        "rmse", "root mean squared error", 0, math.inf, DOWN,
        partial(bounds.root_mean_square, unseen=0.15), weighted.rmse,
        influence.mean_square, is_root=True,
    ),
    Metric(
        "r2", "R\N{SUPERSCRIPT TWO}", -math.inf, 1, UP,
        partial(bounds.explained_variance, unseen=0.15), weighted.r2, influence.explained,
    ),
    Metric(
        "pearson", "Pearson correlation", -1, 1, UP, bounds.fisher, weighted.correlation,
        influence.correlation,
    ),
    Metric("n_both_empty", "both empty", 0, math.inf, UP, None),
    Metric("n_false_alarms", "false alarms", 0, math.inf, DOWN, None),
    Metric("n_missed", "missed", 0, math.inf, DOWN, None),
)  # fmt: skip
METRICS = {metric.name: metric for metric in _ALL}


def metric_of(name: str) -> Metric:
    """Return a metric by its name; ``dice_edema`` is the Dice of one class.

    An unknown one is a number without limits, whose interval is Student's.
    """
    if name in METRICS:
        return METRICS[name]
    stems = [stem for stem in METRICS if name.startswith(f"{stem}_")]
    if stems:
        found = METRICS[max(stems, key=len)]
        title = f"{found.title} {name.removeprefix(found.name).replace('_', ' ').strip()}"
        return replace(found, name=name, title=title)
    title = name.replace("_", " ")
    return Metric(name, title, -math.inf, math.inf, UP, bounds.student)


def parts_of(metric: Metric, panel: Panel) -> tuple[Part, ...] | None:
    """Return the parts of a metric over patients; None where only the task knows it."""
    if metric.name in panel.scores:
        return influence.mean_of(panel.scores[metric.name])
    return metric.influence(panel) if metric.influence and panel.prediction.shape[1] else None


def weighted_metric(metric: Metric, panel: Panel) -> Weighted | None:
    """Return a metric under weights; None where only the task knows it."""
    if metric.name in panel.scores:
        return partial(_mean_score, name=metric.name)
    return metric.weighted if panel.prediction.shape[1] else None


def _mean_score(panel: Panel, weights: weighted.Array, *, name: str) -> weighted.Array:
    return weighted.mean(panel.scores[name], weights)

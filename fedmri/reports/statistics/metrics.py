"""What a metric is: name, unit, range, direction, decimals, and how sure it is; tasks have them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Protocol

from fedmri.reports.statistics import bounds, influence, weighted
from fedmri.reports.statistics.bounds import Method
from fedmri.reports.statistics.influence import Influence, Part
from fedmri.reports.statistics.weighted import Panel, Weighted
from fedmri.tasks.registry import TASKS
from fedmri.tasks.task import Case


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


class Measured(Protocol):
    """A task as a report sees it."""

    @property
    def primary(self) -> str:
        """Metric that arms are compared by."""
        ...

    @property
    def is_higher_better(self) -> bool:
        """Direction of ``primary``."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the subject tables that are learned."""
        ...

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return every metric over patients; NaN where undefined."""
        ...

    def measures(self) -> tuple[Metric, ...]:
        """Return its metrics."""
        ...


def metric_of(name: str, task: Measured | None = None) -> Metric:
    """Return a metric by its name; ``dice_edema`` is the Dice of one class.

    An unknown one is a number without limits, whose interval is Student's.

    Args:
        name: As the task calls it.
        task: Whose metric it is. None looks at fedmri's own tasks, and then at all others.
    """
    tables = iter([_by_name(task)]) if task is not None else (_of_kind(kind) for kind in _kinds())
    found = next((metric for known in tables if (metric := _among(name, known))), None)
    if found is not None:
        return found
    title = name.replace("_", " ")
    return Metric(name, title, -math.inf, math.inf, UP, bounds.student)


def _by_name(task: Measured) -> Mapping[str, Metric]:
    return {metric.name: metric for metric in task.measures()}


def _kinds() -> Iterator[Any]:
    return (TASKS.load(name) for name in TASKS.names)


@lru_cache(maxsize=64)
def _of_kind(kind: Any) -> Mapping[str, Metric]:
    """Return the metrics of a task that is not at hand, as its example has them."""
    return _by_name(kind(**kind.example)) if hasattr(kind, "example") else {}


def _among(name: str, known: Mapping[str, Metric]) -> Metric | None:
    if name in known:
        return known[name]
    stems = [stem for stem in known if name.startswith(f"{stem}_")]
    if not stems:
        return None
    found = known[max(stems, key=len)]
    title = f"{found.title} {name.removeprefix(found.name).replace('_', ' ').strip()}"
    return replace(found, name=name, title=title)


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

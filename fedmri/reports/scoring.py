"""Scores of models over patients, with the replicates that intervals and differences come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmri.reports.intervals import Estimate, Patients, draw, interval, n_of, shuffle
from fedmri.reports.models import Model, cases_of
from fedmri.reports.weighted import Array, Panel, Weighted, panel, weighted_metric
from fedmri.training.task import Case, Task


@dataclass(frozen=True)
class Score:
    """A metric of one model over some patients.

    Attributes:
        value: As the task computes it, mean over the model's runs.
        replicates: The same on each resample, shape ``(n_bootstrap,)``; NaN where undefined.
        n_patients: How many patients there are.
    """

    value: float
    replicates: Array
    n_patients: int

    @property
    def estimate(self) -> Estimate:
        """The value with its interval."""
        return interval(self.value, self.replicates, self.n_patients)

    def minus(self, other: Score) -> Score:
        """Return the difference of two scores whose replicates are of the same draws."""
        n_patients = min(self.n_patients, other.n_patients)
        replicates = self.replicates - other.replicates
        return Score(self.value - other.value, replicates, n_patients)


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the unweighted mean of scores."""
    replicates = np.mean([score.replicates for score in scores], axis=0)
    n_patients = sum(score.n_patients for score in scores)
    return Score(float(np.mean([score.value for score in scores])), replicates, n_patients)


class Scorer:
    """Scores models, each at most once, all on the same resamples of patients."""

    def __init__(self, task: Task, n_bootstrap: int, seed: int) -> None:
        self._task = task
        self._n_bootstrap = n_bootstrap
        self._seed = seed
        self._scores: dict[tuple[Any, ...], Mapping[str, Score]] = {}
        self._draws: dict[tuple[Any, ...], Array] = {}

    def scores(self, model: Model, patients: Patients) -> Mapping[str, Score]:
        """Return every metric of a model over patients that all its runs were tested on."""
        key = (model.label, patients)
        if key not in self._scores:
            self._scores[key] = self._score(model, patients)
        return self._scores[key]

    def primary(self, model: Model, patients: Patients) -> Score:
        """Return the task's primary metric of a model over patients."""
        return self.scores(model, patients)[self._task.primary]

    def _score(self, model: Model, patients: Patients) -> Mapping[str, Score]:
        weights = self._weights(patients)
        runs = [self._score_run(cases_of(run, patients), weights) for run in model.runs]
        names = [name for name in runs[0] if all(name in run for run in runs)]
        n_patients = n_of(patients)
        return {
            name: Score(
                float(np.mean([run[name][0] for run in runs])),
                np.mean([run[name][1] for run in runs], axis=0),
                n_patients,
            )
            for name in names
        }

    def _weights(self, patients: Patients) -> Array:
        key = tuple((site, len(subjects)) for site, subjects in patients)
        if key not in self._draws:
            self._draws[key] = draw(patients, self._n_bootstrap, self._seed)
        return self._draws[key]

    def _score_run(self, cases: Sequence[Case], weights: Array) -> dict[str, tuple[float, Array]]:
        values = self._task.metrics(cases)
        return {
            name: (value, self._replicates(name, value, cases, weights))
            for name, value in values.items()
        }

    def _replicates(self, name: str, value: float, cases: Sequence[Case], weights: Array) -> Array:
        """Return the metric on every resample.

        The quick form is taken only where it gives the task's own number on the patients as they
        are. Else the primary metric is left to the task, resample by resample, and others go
        without an interval.
        """
        undefined = np.full(len(weights), np.nan)
        if not math.isfinite(value):
            return undefined
        patients = panel(cases)
        if (metric := _quick(name, value, patients)) is not None:
            return metric(patients, weights)
        return self._slow_replicates(cases, weights) if name == self._task.primary else undefined

    def _slow_replicates(self, cases: Sequence[Case], weights: Array) -> Array:
        drawn = (np.repeat(np.arange(len(cases)), row.astype(int)).tolist() for row in weights)
        metric = self._task.primary
        return np.array([self._task.metrics([cases[i] for i in rows])[metric] for rows in drawn])

    def worst_by_chance(self, model: Model, patients: Patients) -> Array | None:
        """Return the worst site's score when patients are dealt to sites at random.

        Returns:
            Shape ``(n_bootstrap,)``; None where the quick form of the metric is not the task's.
        """
        name = self._task.primary
        sizes = [len(subjects) for _, subjects in patients]
        dealt = shuffle(sizes, self._n_bootstrap, self._seed)
        by_run = []
        for run in model.runs:
            cases = cases_of(run, patients)
            arrays = panel(cases)
            metric = _quick(name, self._task.metrics(cases)[name], arrays)
            if metric is None:
                return None
            of_sites = [metric(arrays, (dealt == site).astype(float)) for site in range(len(sizes))]
            by_run.append(np.stack(of_sites))
        by_site: Array = np.mean(by_run, axis=0)
        worst: Array = by_site.min(axis=0) if self._task.is_higher_better else by_site.max(axis=0)
        return worst


def _quick(name: str, value: float, patients: Panel) -> Weighted | None:
    """Return the metric under weights if, unweighted, it gives the task's own value."""
    metric = weighted_metric(name, patients)
    if metric is None:
        return None
    plain = float(metric(patients, np.ones((1, len(patients.truth))))[0])
    return metric if math.isclose(plain, value, rel_tol=1e-6, abs_tol=1e-9) else None

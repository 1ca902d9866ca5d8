"""Scores of models over patients, and what intervals and paired differences come from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedmri.reports.models import Model, cases_of
from fedmri.reports.statistics.influence import Part
from fedmri.reports.statistics.intervals import Patients, draw, shuffle
from fedmri.reports.statistics.metrics import Measured, Metric, metric_of, parts_of, weighted_metric
from fedmri.reports.statistics.scores import Outcomes, Parts, Score, score_of
from fedmri.reports.statistics.weighted import Array, Panel, panel
from fedmri.tasks.task import Case


class Scorer:
    """Scores models, each at most once over the same patients."""

    def __init__(self, task: Measured, n_bootstrap: int, seed: int) -> None:
        self._task = task
        self._n_bootstrap = n_bootstrap
        self._seed = seed
        self._scores: dict[tuple[Any, ...], Mapping[str, Score]] = {}

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        return self._task.primary

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
        cases = [cases_of(run, patients) for run in model.runs]
        values = [self._task.metrics(of_run) for of_run in cases]
        keys = tuple((site, subject) for site, subjects in patients for subject in subjects)
        tested = Outcomes(keys, tuple(panel(of_run) for of_run in cases), model.seeds)
        names = [name for name in values[0] if all(name in run for run in values)]
        return {
            name: self._one(
                metric_of(name, self._task), tested, cases, [run[name] for run in values]
            )
            for name in names
        }

    def _one(
        self,
        metric: Metric,
        tested: Outcomes,
        cases: Sequence[Sequence[Case]],
        values: Sequence[float],
    ) -> Score:
        runs = zip(cases, tested.panels, values, strict=True)
        return score_of(metric, tested, values, [self._parts(metric, *run) for run in runs])

    def _parts(self, metric: Metric, cases: Sequence[Case], patients: Panel, value: float) -> Parts:
        """Return what each patient moves a metric by; empty where that cannot be known.

        The formula is taken only where it gives the task's own number. Else the primary metric is
        computed by the task, resample by resample, and others go without an interval.
        """
        if metric.is_count or not math.isfinite(value):
            return ()
        parts = parts_of(metric, patients)
        if parts is not None:
            known = [part.value for part in parts if math.isfinite(part.value)]
            if known and (len(known) < len(parts) or _is_same(float(np.mean(known)), value)):
                return parts
        is_primary = metric.name == self._task.primary
        return (self._resampled(cases, value),) if is_primary else ()

    def _resampled(self, cases: Sequence[Case], value: float) -> Part:
        """Return the influence of patients on the task's own number, from resamples.

        Source:
            Efron 2014, doi:10.1080/01621459.2013.823775 (covariance of counts and values).
        """
        sites = itertools.groupby(cases, key=lambda case: case.site)
        patients = tuple((site, tuple(case.subject for case in own)) for site, own in sites)
        counts = draw(patients, self._n_bootstrap, self._seed)
        rows = (np.repeat(np.arange(len(cases)), row.astype(int)).tolist() for row in counts)
        name = self._task.primary
        found = np.array([self._task.metrics([cases[i] for i in drawn])[name] for drawn in rows])
        if not np.isfinite(found).all():
            return Part(math.nan, np.zeros(len(cases)), (float(len(cases)),))
        moved = (counts - 1).T @ (found - found.mean()) / len(found)
        return Part(value, moved * len(cases), (float(len(cases)),))

    def worst_by_chance(self, model: Model, patients: Patients) -> Array | None:
        """Return the worst site's score when patients are dealt to sites at random.

        Returns:
            Shape ``(n_bootstrap,)``; None where the weighted form of the metric is not the task's.
        """
        name = self._task.primary
        sizes = [len(subjects) for _, subjects in patients]
        dealt = shuffle(sizes, self._n_bootstrap, self._seed)
        by_run = []
        for run in model.runs:
            cases = cases_of(run, patients)
            arrays = panel(cases)
            metric = weighted_metric(metric_of(name, self._task), arrays)
            plain = metric(arrays, np.ones((1, len(cases))))[0] if metric else math.nan
            if metric is None or not _is_same(float(plain), self._task.metrics(cases)[name]):
                return None
            of_sites = [metric(arrays, (dealt == site).astype(float)) for site in range(len(sizes))]
            by_run.append(np.stack(of_sites))
        by_site: Array = np.mean(by_run, axis=0)
        worst: Array = by_site.min(axis=0) if self._task.is_higher_better else by_site.max(axis=0)
        return worst


def _is_same(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-9)

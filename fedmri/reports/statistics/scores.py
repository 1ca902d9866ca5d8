"""One metric of one model over some patients: its value, its interval, and what differs from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedmri.reports.statistics.bounds import Evidence, correlations_of, with_trainings
from fedmri.reports.statistics.contrast import Contrast, Key
from fedmri.reports.statistics.influence import Part
from fedmri.reports.statistics.intervals import Estimate, estimate_of
from fedmri.reports.statistics.metrics import Metric
from fedmri.reports.statistics.spread import Spread, Strata, pooled_strata, spread_of
from fedmri.reports.statistics.weighted import Array, Panel, called_classes

Parts = tuple[Part, ...]
"""Of one metric of one model; empty where the metric cannot be taken apart."""


@dataclass(frozen=True)
class Outcomes:
    """Patients and what every run of a model made of them.

    Attributes:
        keys: Site and subject of each patient.
        panels: Of each run, patients in the order of ``keys``.
        seeds: Training that each run belongs to; several runs of one are averaged.
    """

    keys: tuple[Key, ...]
    panels: tuple[Panel, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """A metric of one model over some patients.

    Attributes:
        metric: What it is.
        value: As the task computes it, mean over the model's trainings.
        keys: Site and subject of each patient.
        classes: True class of each patient, where classes are strata; else 0.
        seeds: Trainings, shape ``(t,)``.
        by_training: The value under each, shape ``(t,)``.
        parts: Of each training; empty where the metric cannot be taken apart.
        called: Class that each patient was called, shape ``(t, n)``, of metrics by steps.
    """

    metric: Metric
    value: float
    keys: tuple[Key, ...]
    classes: tuple[float, ...]
    seeds: tuple[int, ...]
    by_training: Array
    parts: tuple[Parts, ...]
    called: Array

    @property
    def n_subjects(self) -> int:
        """How many patients there are."""
        return len(self.keys)

    @property
    def shares(self) -> Array:
        """What each patient moves the value by, shape ``(t, n)``; NaN where that is not known."""
        n = self.n_subjects
        if not self.parts:
            return np.full((len(self.seeds), n), np.nan)
        rows = [sum(part.influence for part in parts) / (n * len(parts)) for parts in self.parts]
        return np.stack(rows)

    @property
    def is_known(self) -> bool:
        """Whether every part is defined under every training."""
        values = [part.value for parts in self.parts for part in parts]
        return bool(values) and math.isfinite(self.value) and bool(np.isfinite(values).all())

    @property
    def contrast(self) -> Contrast:
        """The score as a sum over patients, ready to be added to others and taken from them."""
        return Contrast(
            value=self.value,
            keys=self.keys,
            classes=self.classes,
            seeds=self.seeds,
            by_training=self.by_training,
            shares=self.shares if self.is_known else np.full_like(self.shares, np.nan),
            steps=self._steps() if self.metric.is_discrete and self.is_known else 0.0,
            is_scored=self.is_known and self._has_pairs(),
            n_pairs=self.n_subjects,
        )

    def minus(self, other: Score) -> Contrast:
        """Return the difference of two models' scores over the same patients."""
        pair = [self.contrast, other.contrast]
        if self.metric.is_root and self.value + other.value > 0:
            # a - b is (a**2 - b**2) / (a + b): a mean over patients, without the bend of the root
            middle = 0.5 * (self.value + other.value)
            pair = [replace(one, shares=one.shares * (one.value / middle)) for one in pair]
        found = pair[0].minus(pair[1])
        if not self.metric.is_discrete:
            return found
        mine, theirs = self.called.mean(axis=0), other.called.mean(axis=0)
        n_pairs = int((mine != theirs).sum())
        return replace(found, n_pairs=n_pairs)

    def _has_pairs(self) -> bool:
        """Whether each class of an area has two patients, so that its variance can be seen."""
        sizes = [size for part in self.parts[0] for size in part.sizes]
        return not self.metric.is_by_class or min(sizes) >= 2

    def _steps(self) -> float:
        """Return the variance of one more pair of patients a class, one won and one lost."""
        sizes = [part.sizes[0] for part in self.parts[0]]
        return math.fsum(1 / size**2 for size in sizes) / len(sizes) ** 3

    @property
    def estimate(self) -> Estimate:
        """The value with its interval, by the method of the metric."""
        method = self.metric.method
        if method is None or not self.is_known or self.n_subjects < 2:
            return estimate_of(self.value, math.nan, math.nan, self.n_subjects)
        strata = self._strata()
        bounds = method(self._evidence(strata))
        total = spread_of(self.shares, self.by_training, strata)
        ends = with_trainings(self.value, bounds, total)
        low, high = max(ends[0], self.metric.low), min(ends[1], self.metric.high)
        return estimate_of(self.value, low, high, self.n_subjects)

    def _strata(self) -> Strata:
        sites = [site for site, _ in self.keys]
        return pooled_strata(sites, self.classes)

    def _evidence(self, strata: Strata) -> Evidence:
        by_part = list(zip(*self.parts, strict=True))
        parts = tuple(_averaged(trainings) for trainings in by_part)
        n = self.n_subjects
        spreads = tuple(_patients_only(part.influence / n, strata) for part in parts)
        return Evidence(
            parts=parts,
            spreads=spreads,
            sharing=tuple(_sharing(mean, each) for mean, each in zip(parts, by_part, strict=True)),
            correlations=correlations_of(parts, independent=self.metric.name.startswith("bal")),
            n_subjects=n,
        )


def _averaged(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    value = math.fsum(part.value for part in parts) / len(parts)
    influence: Array = np.mean([part.influence for part in parts], axis=0)
    sizes = np.mean([part.sizes for part in parts], axis=0)
    return Part(value, influence, tuple(sizes.tolist()))


def _patients_only(shares: Array, strata: Strata) -> Spread:
    return spread_of(shares[None], np.zeros(1), strata)


def _sharing(mean: Part, each: Sequence[Part]) -> float:
    single = float(np.mean([(part.influence**2).mean() for part in each]))
    if len(each) < 2 or single <= 0:
        return 1.0
    return float(np.clip((mean.influence**2).mean() / single, 1 / len(each), 1))


def score_of(
    metric: Metric, tested: Outcomes, values: Sequence[float], parts: Sequence[Parts]
) -> Score:
    """Return the score of a model.

    Args:
        metric: What is scored.
        tested: Patients, runs and trainings.
        values: The metric under each run.
        parts: Its parts under each run.
    """
    seeds = tuple(dict.fromkeys(tested.seeds))
    members = [[i for i, own in enumerate(tested.seeds) if own == seed] for seed in seeds]
    by_seed = tuple(_averaged_parts([parts[i] for i in rows]) for rows in members)
    called = [called_classes(one) if metric.is_discrete else one.truth for one in tested.panels]
    truth = tuple(tested.panels[0].truth.tolist())
    return Score(
        metric=metric,
        value=float(np.mean(values)),
        keys=tested.keys,
        classes=truth if metric.is_by_class else (0.0,) * len(tested.keys),
        seeds=seeds,
        by_training=np.array([np.mean([values[i] for i in rows]) for rows in members]),
        parts=by_seed if all(by_seed) else (),
        called=np.stack([np.mean([called[i] for i in rows], axis=0) for rows in members]),
    )


def _averaged_parts(runs: Sequence[Parts]) -> Parts:
    if not all(runs) or len({len(parts) for parts in runs}) > 1:
        return ()
    return tuple(_averaged(parts) for parts in zip(*runs, strict=True))

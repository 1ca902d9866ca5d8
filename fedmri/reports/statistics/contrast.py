"""Sums and differences of scores: each patient's share in them, paired wherever patients are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fedmri.reports.statistics.spread import (
    Spread,
    Strata,
    p_value,
    pooled_strata,
    spread_of,
    t_bounds,
)
from fedmri.reports.statistics.weighted import Array

Key = tuple[str, str]
"""Site and subject."""


@dataclass(frozen=True)
class Contrast:
    """A number that is, to first order, a sum of patients' shares.

    Attributes:
        value: The number.
        keys: Site and subject of each patient.
        classes: What must not be mixed in a stratum, one entry a patient.
        seeds: Trainings that it is averaged over.
        by_training: The number under each, shape ``(t,)``.
        shares: What each patient moves it by under each training, shape ``(t, n)``.
        steps: Variance that a pair of patients more, one won and one lost, would add.
        is_scored: Whether its variance can be said at all.
        n_pairs: Patients on whom it rests: of a difference those on whom both models differ.
    """

    value: float
    keys: tuple[Key, ...]
    classes: tuple[float, ...]
    seeds: tuple[int, ...]
    by_training: Array
    shares: Array
    steps: float
    is_scored: bool
    n_pairs: int

    def times(self, factor: float) -> Contrast:
        """Return the number multiplied."""
        return replace(
            self,
            value=factor * self.value,
            by_training=factor * self.by_training,
            shares=factor * self.shares,
            steps=factor**2 * self.steps,
        )

    def plus(self, other: Contrast) -> Contrast:
        """Return the sum; patients and trainings that both have are paired."""
        if self.keys == other.keys:
            return self._added(other)
        places = {key: i for i, key in enumerate(dict.fromkeys((*self.keys, *other.keys)))}
        classes = dict(zip((*other.keys, *self.keys), (*other.classes, *self.classes), strict=True))
        seeds, mine, theirs = _aligned(self.seeds, other.seeds)
        is_paired = len(places) < len(self.keys) + len(other.keys)
        shares = np.zeros((len(seeds), len(places)))
        for one, rows in ((self, mine), (other, theirs)):
            shares[:, [places[key] for key in one.keys]] += _rows(one, rows)
        return Contrast(
            value=self.value + other.value,
            keys=tuple(places),
            classes=tuple(classes[key] for key in places),
            seeds=seeds,
            by_training=self.by_training[mine] + other.by_training[theirs],
            shares=shares,
            steps=max(self.steps, other.steps) if is_paired else self.steps + other.steps,
            is_scored=self.is_scored and other.is_scored,
            n_pairs=len(places),
        )

    def _added(self, other: Contrast) -> Contrast:
        """Return the sum of two numbers over the same patients."""
        seeds, mine, theirs = _aligned(self.seeds, other.seeds)
        return replace(
            self,
            value=self.value + other.value,
            seeds=seeds,
            by_training=self.by_training[mine] + other.by_training[theirs],
            shares=_rows(self, mine) + _rows(other, theirs),
            # Two models on the same patients are won or lost on the same pair.
            steps=max(self.steps, other.steps),
            is_scored=self.is_scored and other.is_scored,
        )

    def minus(self, other: Contrast) -> Contrast:
        """Return the difference."""
        return self.plus(other.times(-1))

    @cached_property
    def spread(self) -> Spread:
        """Its variance over patients and trainings."""
        found = spread_of(self.shares, self.by_training, self._strata)
        return replace(found, patients=found.patients + self.steps)

    @property
    def _strata(self) -> Strata:
        return pooled_strata([site for site, _ in self.keys], self.classes)

    @property
    def has_spread(self) -> bool:
        """Whether there is something that an interval can be made from."""
        is_there = self.is_scored and math.isfinite(self.value)
        return is_there and self.spread.df > 0 and self.spread.total > 1e-24

    @property
    def bounds(self) -> tuple[float, float]:
        """Student's interval; NaN where there is none."""
        return t_bounds(self.value, self.spread) if self.has_spread else (math.nan, math.nan)

    @property
    def p_value(self) -> float:
        """Two-sided p-value of zero; NaN where it cannot be said.

        It is never below that of a sign test of the patients that it rests on, and is that where
        all of them say the same and no spread is seen.
        """
        if not self.is_scored or not math.isfinite(self.value):
            return math.nan
        least = min(1.0, 2.0 ** (1 - self.n_pairs))
        if self.has_spread:
            return max(least, p_value(self.value, self.spread))
        is_constant = self.spread.df > 0
        return (least if abs(self.value) > 1e-12 else 1.0) if is_constant else math.nan


def _rows(contrast: Contrast, rows: list[int]) -> Array:
    """Return shares under some trainings; their mean stays that over all trainings."""
    own = contrast.shares[rows]
    shares: Array = own - own.mean(axis=0) + contrast.shares.mean(axis=0)
    return shares


def _aligned(
    first: Sequence[int], second: Sequence[int]
) -> tuple[tuple[int, ...], list[int], list[int]]:
    """Return the trainings of a sum, and the rows of both that make them.

    Trainings of one seed are paired. Where there are no two common seeds the trainings are
    independent, so any pairing is as good; a single training stands beside each of the other's.
    """
    common = [seed for seed in first if seed in set(second)]
    if len(common) >= 2 or list(first) == list(second):
        return (
            tuple(common),
            [list(first).index(seed) for seed in common],
            [list(second).index(seed) for seed in common],
        )
    n = max(len(first), len(second)) if 1 in {len(first), len(second)} else 0
    n = n or min(len(first), len(second))
    rows = [list(range(n)) if len(seeds) > 1 else [0] * n for seeds in (first, second)]
    longer = first if len(first) >= len(second) else second
    return tuple(longer[:n]), rows[0], rows[1]


def mean_of(contrasts: Iterable[Contrast], weights: Sequence[float] | None = None) -> Contrast:
    """Return the weighted mean, unweighted where no weights are given."""
    found = list(contrasts)
    shares = np.asarray(weights if weights is not None else [1.0] * len(found))
    shares = shares / shares.sum()
    total = found[0].times(float(shares[0]))
    for one, share in zip(found[1:], shares[1:], strict=True):
        total = total.plus(one.times(float(share)))
    return total

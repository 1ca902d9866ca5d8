"""Numbers with intervals, and patients drawn and dealt again."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from fedmri.evaluate.estimate import Estimate as Estimate
from fedmri.reports.statistics.weighted import Array

Patients = tuple[tuple[str, tuple[str, ...]], ...]
"""Sites in order, each with its subjects in order: what a score is over."""


def estimate_of(value: float, low: float, high: float, n_subjects: int) -> Estimate:
    """Return a number with its interval; with none where the ends are one or leave it out.

    An interval of no width says that nothing varies, which few patients cannot show.
    """
    if not (math.isfinite(low) and math.isfinite(high) and high - low > 1e-9 and n_subjects > 1):
        return Estimate(value, math.nan, math.nan, n_subjects)
    # Sums of the same numbers in another order differ in the last bits: that is no difference.
    return Estimate(value, round(min(low, value), 12), round(max(high, value), 12), n_subjects)


def n_of(patients: Patients) -> int:
    """Return how many patients there are."""
    return sum(len(subjects) for _, subjects in patients)


def draw(patients: Patients, n_bootstrap: int, seed: int) -> Array:
    """Draw patients with replacement, each site's own number from its own patients.

    A site's draws depend on its name, its number of patients and the seed alone, so that two models
    over the same patients are paired.

    Returns:
        How often each patient was drawn, shape ``(n_bootstrap, n)``, sites side by side.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 8 (stratified).
    """
    columns = []
    for site, subjects in patients:
        n = len(subjects)
        stream = np.random.default_rng([seed, zlib.crc32(site.encode()), n])
        columns.append(stream.multinomial(n, np.full(n, 1 / n), size=n_bootstrap))
    return np.concatenate(columns, axis=1).astype(np.float64)


def shuffle(sizes: Sequence[int], n_shuffles: int, seed: int) -> Array:
    """Deal patients to sites at random, each site keeping its number of patients.

    Returns:
        Site of each patient in each shuffle, shape ``(n_shuffles, sum(sizes))``.
    """
    sites = np.repeat(np.arange(len(sizes)), sizes)
    stream = np.random.default_rng([seed, len(sites)])
    return stream.permuted(np.tile(sites, (n_shuffles, 1)), axis=1).astype(np.float64)

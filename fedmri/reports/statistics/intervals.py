"""Numbers with intervals: of patients at these hospitals, and what a new hospital may bring."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fedmri.reports.statistics.spread import LEVEL
from fedmri.reports.statistics.weighted import Array

Patients = tuple[tuple[str, tuple[str, ...]], ...]
"""Sites in order, each with its subjects in order: what a score is over."""


@dataclass(frozen=True)
class Estimate:
    """A number, how sure it is, and over how many patients; NaN where it cannot be said."""

    value: float
    low: float
    high: float
    n_patients: int

    @property
    def has_interval(self) -> bool:
        """Whether there were patients enough to say how sure the number is."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def estimate_of(value: float, low: float, high: float, n_patients: int) -> Estimate:
    """Return a number with its interval; with none where the ends are one or leave it out.

    An interval of no width says that nothing varies, which few patients cannot show.
    """
    if not (math.isfinite(low) and math.isfinite(high) and high - low > 1e-9 and n_patients > 1):
        return Estimate(value, math.nan, math.nan, n_patients)
    # Sums of the same numbers in another order differ in the last bits: that is no difference.
    return Estimate(value, round(min(low, value), 12), round(max(high, value), 12), n_patients)


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


@dataclass(frozen=True)
class NewSite:
    """Random-effects summary over sites: the mean, and where a new site's true value may lie."""

    mean: float
    low: float
    high: float
    n_sites: int


def new_site_interval(
    values: Sequence[float], errors: Sequence[float], *, is_proportion: bool
) -> NewSite | None:
    """Predict the value at a site that is like the others but is not among them.

    Args:
        values: One a site.
        errors: Standard error of each.
        is_proportion: Whether values lie between 0 and 1; they are then combined as logits.

    Returns:
        None below three sites, and where a value or error cannot be combined.

    Source:
        DerSimonian and Laird 1986, doi:10.1016/0197-2456(86)90046-2 (variance between sites);
        Higgins et al. 2009, doi:10.1111/j.1467-985X.2008.00552.x (prediction interval);
        Knapp and Hartung 2003, doi:10.1002/sim.1482 (variance of the mean, never below the plain).
    """
    y, se = np.asarray(values, float), np.asarray(errors, float)
    is_usable = np.isfinite(y) & np.isfinite(se) & (se > 0)
    if is_proportion:
        is_usable &= (y > 0) & (y < 1)
    if len(y) < 3 or not is_usable.all():
        return None
    if is_proportion:
        y, se = np.log(y / (1 - y)), se / (y * (1 - y))
    centre, spread = _random_effects(y, se)
    ends = np.array([centre, centre - spread, centre + spread])
    if is_proportion:
        ends = 1 / (1 + np.exp(-ends))
    mean, low, high = ends.tolist()
    return NewSite(mean, low, high, len(y))


def _random_effects(y: Array, se: Array) -> tuple[float, float]:
    """Return the mean over sites and the half width of the prediction interval."""
    n_sites = len(y)
    fixed = se**-2.0
    heterogeneity = (fixed * (y - (fixed @ y) / fixed.sum()) ** 2).sum()
    scale = fixed.sum() - (fixed**2).sum() / fixed.sum()
    between = max(0.0, (heterogeneity - (n_sites - 1)) / scale)
    weights = 1 / (se**2 + between)
    centre = (weights @ y) / weights.sum()
    observed = (weights * (y - centre) ** 2).sum() / ((n_sites - 1) * weights.sum())
    variance = between + max(observed, 1 / weights.sum())
    quantile = stats.t.ppf((1 + LEVEL) / 2, n_sites - 2)
    return float(centre), float(quantile * math.sqrt(variance))


def shuffle(sizes: Sequence[int], n_shuffles: int, seed: int) -> Array:
    """Deal patients to sites at random, each site keeping its number of patients.

    Returns:
        Site of each patient in each shuffle, shape ``(n_shuffles, sum(sizes))``.
    """
    sites = np.repeat(np.arange(len(sizes)), sizes)
    stream = np.random.default_rng([seed, len(sites)])
    return stream.permuted(np.tile(sites, (n_shuffles, 1)), axis=1).astype(np.float64)

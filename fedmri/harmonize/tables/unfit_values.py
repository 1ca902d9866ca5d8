"""Values that do not fit ComBat's model of a bell curve: they are told, not changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedmri.harmonize.cautions import Caution, named
from fedmri.harmonize.combat.site_table import Array, hardly_varies
from fedmri.harmonize.tables.table import Cohort

ZERO_SHARE = 0.1
FAR = 25.0
"""Distance to a site's median, in its interquartile ranges, from which on a value is told."""
FEWEST = 8
UNITS_APART = 8.0
"""Ratio of two sites' medians from which on units are asked about; cm and mm differ by 10."""


def unfit_values(cohort: Cohort, is_fitted: NDArray[np.bool_]) -> list[Caution]:
    """Return what is to be told of values that the model of ComBat does not fit (H35).

    Args:
        cohort: The table.
        is_fitted: Features that were harmonized, ``(p,)``; others are left and not told here.
    """
    names = tuple(name for name, is_in in zip(cohort.features, is_fitted, strict=True) if is_in)
    own = replace(cohort, features=names, values=cohort.values[:, is_fitted])
    return [*_zeros(own), *_outliers(own), *_units(own)]


def _zeros(cohort: Cohort) -> Iterator[Caution]:
    found = []
    for name, values in zip(cohort.features, _varying(cohort).T, strict=True):
        known = values[np.isfinite(values)]
        share = float((known == 0).mean()) if len(known) else 0.0
        if ZERO_SHARE <= share < 1 and (known >= 0).all():
            found.append(f"{name} ({share:.0%})")
    if found:
        yield Caution(
            "H35",
            f"Many values are exactly 0: {named(found, len(found))}. Harmonized, zeros become "
            "other numbers and some fall below 0; --keep leaves such a column as it is.",
        )


def _varying(cohort: Cohort) -> Array:
    """Return the features, NaN where one hardly varies at a site and is left there anyway."""
    values = cohort.values.copy()
    for site in cohort.names:
        rows = cohort.sites == site
        values[np.ix_(rows, hardly_varies(values[rows]))] = np.nan
    return values


def _outliers(cohort: Cohort) -> Iterator[Caution]:
    found = []
    for name, values in zip(cohort.features, cohort.values.T, strict=True):
        for site in cohort.names:
            rows = np.flatnonzero((cohort.sites == site) & np.isfinite(values))
            far = rows[_is_far(values[rows])]
            found += [f"{name} {values[row]:g} in row {row + 1} ({site})" for row in far]
    if found:
        yield Caution(
            "H35",
            f"Far from all others of their site: {named(found, len(found))}. Each moves its site's "
            "mean and spread; correct it, or say --missing if it stands for a missing value.",
        )


def _units(cohort: Cohort) -> Iterator[Caution]:
    """Tell of features that are many times larger at one site than at another: other units."""
    found = []
    for name, values in zip(cohort.features, cohort.values.T, strict=True):
        known = np.isfinite(values)
        if not known.any() or values[known].min() <= 0:
            continue
        rows = {site: known & (cohort.sites == site) for site in cohort.names}
        middles = {
            site: float(np.median(values[of])) for site, of in rows.items() if of.sum() >= FEWEST
        }
        if len(middles) < 2:
            continue
        low, high = min(middles, key=middles.__getitem__), max(middles, key=middles.__getitem__)
        if middles[high] >= UNITS_APART * middles[low]:
            found.append(f"{name} ({middles[high]:.3g} at {high}, {middles[low]:.3g} at {low})")
    if found:
        yield Caution(
            "H35",
            f"Medians of sites lie far apart: {named(found, len(found))}. If sites write other "
            "units, as cm and mm, convert them first.",
        )


def _is_far(values: Array) -> NDArray[np.bool_]:
    if len(values) < FEWEST:
        return np.zeros(len(values), dtype=np.bool_)
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return np.asarray((high > low) & (np.abs(values - middle) > FAR * (high - low)))

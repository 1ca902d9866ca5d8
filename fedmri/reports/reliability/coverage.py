"""Whether sets of classes and intervals of values hold the truth as often as they promise, by site.

Limits come from validation patients alone, and are judged on test patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedmri.evaluate.estimate import Estimate
from fedmri.evaluate.reliability.conformal import (
    Calibrated,
    calibrate_sets,
    calibrated,
    coverage_by_site,
    prediction_sets,
)
from fedmri.reports.models import Model
from fedmri.reports.reliability.averaged import Said, tested, validated
from fedmri.reports.reliability.calibration import LEAST_PATIENTS
from fedmri.reports.statistics.weighted import Array

PROMISED = 0.9


@dataclass(frozen=True)
class Coverage:
    """How often a model's sets or intervals hold the truth at a site.

    Attributes:
        label: The model.
        site: The site; ``""`` for all that took part.
        n_validation: Validation patients of the site.
        common: Share that is held under one limit for all sites.
        own: Share under each site's own limit.
        common_size: Mean classes in a set, or mean width of an interval, under one limit.
        own_size: The same under own limits.
        is_own: Whether the site has enough validation patients for a limit of its own.
        is_of_classes: Whether sizes are classes; else they have the unit of the target.
    """

    label: str
    site: str
    n_validation: int
    common: Estimate
    own: Estimate
    common_size: float
    own_size: float
    is_own: bool
    is_of_classes: bool


def coverages(rows: Sequence[Model]) -> tuple[Coverage, ...]:
    """Return coverage over all sites of each main model, and of the first one at each site."""
    found = [tuple(_of_row(row)) for row in rows if row.is_main]
    shown = [of_row for of_row in found if of_row]
    return tuple(one for k, of_row in enumerate(shown) for one in (of_row[:1] if k else of_row))


def _of_row(row: Model) -> Iterator[Coverage]:
    new, old = tested(row), validated(row)
    if new is None or old is None or new.is_of_classes != old.is_of_classes:
        return
    if min(len(new.truth), len(old.truth)) < LEAST_PATIENTS:
        return
    limits = _limits(old)
    (is_held, size), (is_held_own, size_own) = (
        _held(new, limits, sites) for sites in (None, new.sites)
    )
    common, own = (coverage_by_site(held, new.sites) for held in (is_held, is_held_own))
    for site in common:
        here = new.sites == site if site else np.ones(len(new.sites), dtype=np.bool_)
        yield Coverage(
            row.label,
            site,
            n_validation=int((old.sites == site).sum()) if site else len(old.sites),
            common=common[site],
            own=own[site],
            common_size=float(size[here].mean()),
            own_size=float(size_own[here].mean()),
            is_own=site in limits.by_site,
            is_of_classes=new.is_of_classes,
        )


def _limits(old: Said) -> Calibrated:
    """Return the limits of validation patients; a site with too few has none of its own."""
    if old.is_of_classes:
        found = calibrate_sets(old.predictions, old.classes, PROMISED, sites=old.sites)
    else:
        found = calibrated(np.abs(old.predictions[:, 0] - old.truth), PROMISED, old.sites)
    own = {site: limit for site, limit in found.by_site.items() if np.isfinite(limit)}
    return replace(found, by_site=own)


def _held(
    new: Said, limits: Calibrated, sites: NDArray[np.str_] | None
) -> tuple[NDArray[np.bool_], Array]:
    """Return whether each patient's truth is held, and the size of its set or interval."""
    if new.is_of_classes:
        sets = prediction_sets(new.predictions, limits, sites=sites)
        return sets[np.arange(len(sets)), new.classes], sets.sum(axis=1).astype(np.float64)
    limit = limits.limits(sites, len(new.truth))
    return np.abs(new.predictions[:, 0] - new.truth) <= limit, 2 * limit

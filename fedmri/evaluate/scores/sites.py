"""ROC areas of several sites: within sites, over all, and by prevalence alone.

Where classes are more common at some sites, a score that knows the site and nothing else has an
area above one half over all patients. Within sites its area is one half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedmri.evaluate.arrays import Array, Flags, Labels, codes_of, require_same_length
from fedmri.evaluate.estimate import LEVEL, Estimate
from fedmri.evaluate.proportions import newcombe_of_strata
from fedmri.evaluate.scores.ranking import auc


@dataclass(frozen=True)
class SiteAreas:
    """Areas of one model at several sites.

    Attributes:
        pooled: Over all patients, whatever their site.
        within: Mean over sites, weighted by their pairs of a positive and a negative patient.
        prevalence_only: Of a score that is the site's prevalence, and looks at no patient.
        by_site: Of each site with both classes.
    """

    pooled: Estimate
    within: Estimate
    prevalence_only: float
    by_site: Mapping[str, Estimate]


def site_areas(
    score: Array, is_positive: Flags, sites: Labels, *, level: float = LEVEL
) -> SiteAreas:
    """Return areas over all patients and within sites, beside the one by prevalence alone.

    Args:
        score: Of each patient, shape ``(n,)``.
        is_positive: Shape ``(n,)``.
        sites: Site of each patient, shape ``(n,)``.
        level: Coverage aimed at.

    Raises:
        UsageError: Lengths differ, or one class has no patient (U80).

    Source:
        Janes and Pepe 2009, doi:10.1093/biomet/asp002 (covariate-adjusted area).
    """
    require_same_length(score=score, is_positive=is_positive, sites=sites)
    names, code = codes_of(sites)
    found, sizes = {}, []
    for place, name in enumerate(names):
        own = code == place
        m = int(is_positive[own].sum())
        if 0 < m < own.sum():
            found[str(name)] = auc(score[own], is_positive[own], level=level)
            sizes.append((m, int(own.sum()) - m))
    pooled = auc(score, is_positive, level=level)
    within = _weighted(list(found.values()), sizes, level)
    return SiteAreas(pooled, within, prevalence_area(is_positive, sites), found)


def _weighted(areas: list[Estimate], sizes: list[tuple[int, int]], level: float) -> Estimate:
    pairs = np.array([m * n for m, n in sizes], dtype=np.float64)
    if not areas:
        return Estimate(math.nan, math.nan, math.nan, 0)
    share = pairs / pairs.sum()
    value = float(share @ np.array([one.value for one in areas]))
    strata = [(float(own), m, n) for own, (m, n) in zip(share, sizes, strict=True)]
    ends = newcombe_of_strata(value, strata, level=level)
    return Estimate(value, *ends, sum(m + n for m, n in sizes))


def prevalence_area(
    is_positive: Flags, sites: Labels, prevalence: Mapping[str, float] | None = None
) -> float:
    """Return the ROC area of a score that is the prevalence at the patient's site.

    Args:
        is_positive: Shape ``(n,)``.
        sites: Site of each patient, shape ``(n,)``.
        prevalence: Of each site, from its training patients. Without it the prevalence among
            these very patients is taken, which gives the largest such area.

    Source:
        Janes and Pepe 2009, doi:10.1093/biomet/asp002.
    """
    names, code = codes_of(sites)
    if prevalence is None:
        of_site = np.bincount(code, is_positive.astype(float)) / np.bincount(code)
    else:
        of_site = np.array([prevalence[str(name)] for name in names])
    return auc(of_site[code], is_positive).value


def design_effect(n_entries: float, correlation: float) -> float:
    """Return by how much variance grows where a patient's entries are alike.

    Args:
        n_entries: Slices or scans of a patient.
        correlation: Between two entries of one patient.

    Source:
        Kish 1965, Survey Sampling; Eldridge et al. 2006, doi:10.1093/ije/dyl129.
    """
    return 1 + (n_entries - 1) * correlation

"""Conformal prediction: sets of classes and intervals of values with a promised coverage.

The promise holds where a new patient is drawn like the patients of calibration. At a hospital that
differs it may fail, so coverage is counted by site.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedmri.evaluate.arrays import Array, Flags, Indices, Labels, codes_of, require_same_length
from fedmri.evaluate.estimate import Estimate
from fedmri.evaluate.proportions import share_of

Score = Literal["lac", "aps"]
"""How unlike a class is: 1 minus its probability, or the mass of all classes down to it."""


def conformal_quantile(scores: Array, coverage: float) -> float:
    """Return the score that a new patient stays below with a probability of ``coverage``.

    Args:
        scores: Of calibration patients, shape ``(n,)``; larger is more unlike.
        coverage: Promised share, such as 0.9.

    Returns:
        Infinite where the patients are too few for the promise: fewer than ``1 / (1 - coverage)``.

    Source:
        Papadopoulos et al. 2002, doi:10.1007/3-540-36755-1_29; Lei et al. 2018,
        doi:10.1080/01621459.2017.1307116.
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def class_scores(probability: Array, kind: Score = "lac") -> Array:
    """Return how unlike each class of each patient is, shape ``(n, k)``.

    Source:
        Sadinle et al. 2019, doi:10.1080/01621459.2017.1395341 (lac); Romano et al. 2020,
        arXiv:2006.02544 (aps, without randomisation: sets are never too small).
    """
    if kind == "lac":
        return np.asarray(1 - probability)
    order = np.argsort(-probability, axis=1, kind="stable")
    mass = np.cumsum(np.take_along_axis(probability, order, axis=1), axis=1)
    found = np.empty_like(mass)
    np.put_along_axis(found, order, mass, axis=1)
    return found


@dataclass(frozen=True)
class Calibrated:
    """Limits from calibration patients.

    Attributes:
        limit: Over all sites.
        by_site: Of each site's own patients; a site with too few has an infinite one.
        coverage: What is promised.
    """

    limit: float
    by_site: Mapping[str, float]
    coverage: float

    def limits(self, sites: Labels | None, n: int) -> Array:
        """Return the limit of each patient: its site's own, else the common one."""
        if sites is None:
            return np.full(n, self.limit)
        return np.array([self.by_site.get(str(site), self.limit) for site in sites])


def calibrated(scores: Array, coverage: float, sites: Labels | None = None) -> Calibrated:
    """Return the limits that calibration patients set.

    Args:
        scores: Of their true classes, or sizes of their errors; shape ``(n,)``.
        coverage: Promised share.
        sites: Site of each patient, for limits by site.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Vovk 2012, arXiv:1209.2673 (limits by group, Mondrian).
    """
    require_same_length(scores=scores, sites=sites if sites is not None else scores)
    by_site = {}
    if sites is not None:
        names, code = codes_of(sites)
        by_site = {
            str(name): conformal_quantile(scores[code == place], coverage)
            for place, name in enumerate(names)
        }
    return Calibrated(conformal_quantile(scores, coverage), by_site, coverage)


def calibrate_sets(
    probability: Array,
    truth: Indices,
    coverage: float,
    *,
    sites: Labels | None = None,
    kind: Score = "lac",
) -> Calibrated:
    """Return limits for sets of classes.

    Args:
        probability: Of calibration patients, shape ``(n, k)``.
        truth: Their classes, shape ``(n,)``.
        coverage: Promised share of patients whose class is in their set.
        sites: Site of each patient, for limits by site.
        kind: How unlike a class is.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Sadinle et al. 2019, doi:10.1080/01621459.2017.1395341.
    """
    require_same_length(probability=probability, truth=truth)
    scores = class_scores(probability, kind)[np.arange(len(truth)), truth]
    return calibrated(scores, coverage, sites)


def prediction_sets(
    probability: Array, found: Calibrated, *, sites: Labels | None = None, kind: Score = "lac"
) -> Flags:
    """Return which classes are in each patient's set, shape ``(n, k)``.

    Args:
        probability: Of new patients, shape ``(n, k)``.
        found: Of ``calibrate_sets`` with the same ``kind``.
        sites: Site of each patient, where limits go by site.
        kind: How unlike a class is.

    Source:
        Sadinle et al. 2019, doi:10.1080/01621459.2017.1395341.
    """
    limits = found.limits(sites, len(probability))
    return np.asarray(class_scores(probability, kind) <= limits[:, None] + 1e-12, dtype=bool)


def prediction_intervals(
    predicted: Array, found: Calibrated, *, sites: Labels | None = None
) -> Array:
    """Return the interval of each patient's value, shape ``(n, 2)``.

    Args:
        predicted: Of new patients, shape ``(n,)``.
        found: Of ``calibrated`` on sizes of errors.
        sites: Site of each patient, where limits go by site.

    Source:
        Lei et al. 2018, doi:10.1080/01621459.2017.1307116.
    """
    limits = found.limits(sites, len(predicted))
    return np.stack([predicted - limits, predicted + limits], axis=1)


def coverage_by_site(is_covered: Flags, sites: Labels) -> dict[str, Estimate]:
    """Return the share of patients who were covered, over all (``""``) and at each site.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    require_same_length(is_covered=is_covered, sites=sites)
    names, code = codes_of(sites)
    hits = np.bincount(code, np.asarray(is_covered, float))
    counts = np.bincount(code)
    found = {"": share_of(int(hits.sum()), int(counts.sum()))}
    pairs = zip(names, hits, counts, strict=True)
    return found | {str(name): share_of(int(hit), int(n)) for name, hit, n in pairs}

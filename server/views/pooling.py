"""What the aggregates of several sites say together, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import special

from fedmri.reports.statistics.intervals import Estimate
from fedmri.reports.statistics.metrics import metric_of
from fedmri.reports.statistics.spread import LEVEL

EXACT = "mean over patients"
ROOT = "root of the mean square over patients"
SUM = "sum over sites"
BY_SITE = "mean of the sites' values, weighted by patients"


@dataclass(frozen=True)
class SiteScores:
    """A site's aggregates on one split: all that the server knows of its patients."""

    site: str
    n_subjects: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Pooled:
    """A metric over the patients of several sites.

    Attributes:
        estimate: Value, interval where one can be given, and patients behind it.
        sites: Sites that have a value.
        how: What the value is; BY_SITE is not the metric of all patients taken together.
    """

    metric: str
    estimate: Estimate
    sites: tuple[str, ...]
    how: str


def pool(scores: Sequence[SiteScores], metric: str) -> Pooled:
    """Return a metric over all sites that have a finite value and a patient."""
    used = [
        (one.site, one.n_subjects, one.metrics[metric])
        for one in sorted(scores, key=lambda one: one.site)
        if one.n_subjects and math.isfinite(one.metrics.get(metric, math.nan))
    ]
    n, sites = sum(count for _, count, _ in used), tuple(site for site, _, _ in used)
    if not used:
        return Pooled(metric, _alone(math.nan, 0), (), BY_SITE)
    known = metric_of(metric)
    if known.is_count:
        return Pooled(metric, _alone(math.fsum(value for *_, value in used), n), sites, SUM)
    if known.is_root:
        mean = math.fsum(count * value**2 for _, count, value in used) / n
        return Pooled(metric, _alone(math.sqrt(mean), n), sites, ROOT)
    mean = math.fsum(count * value for _, count, value in used) / n
    return Pooled(
        metric, estimate(metric, mean, n), sites, EXACT if known.is_patient_mean else BY_SITE
    )


def estimate(metric: str, mean: float, n_subjects: int) -> Estimate:
    """Return a mean over patients with the interval that holds whatever their single scores are.

    Only the range of a patient's score is used, for the server knows no more. The interval covers
    the expected mean with a probability of at least 95 %, so it is wider than one from the patients
    themselves. There is none for a metric that has no range or is no mean over patients.

    Source:
        Hoeffding 1963, doi:10.1080/01621459.1963.10500830, theorem 1 (inequality 2.1), both sides;
        it holds for patients of several sites with different expectations.
    """
    top = metric_of(metric).high if metric_of(metric).is_patient_mean else math.inf
    if math.isinf(top) or n_subjects < 1 or not 0 <= mean <= top:
        return _alone(mean, n_subjects)
    share, room = mean / top, math.log(2 / (1 - LEVEL)) / n_subjects
    low, high = _end(share, 0.0, room), _end(share, 1.0, room)
    return Estimate(mean, top * low, top * high, n_subjects)


def _alone(value: float, n_subjects: int) -> Estimate:
    return Estimate(value, math.nan, math.nan, n_subjects)


def _end(mean: float, outside: float, room: float) -> float:
    """Return the expectation farthest towards ``outside`` that is compatible with a mean."""
    from scipy.optimize import brentq  # slow to import

    if mean == outside:
        return outside
    edge = math.nextafter(outside, mean)  # at the end itself the divergence is infinite
    if _divergence(mean, edge) <= room:
        return edge
    end = brentq(lambda q: _divergence(mean, q) - room, mean, edge, xtol=1e-15)
    return float(end)


def _divergence(p: float, q: float) -> float:
    """Return the Kullback-Leibler divergence of two coins, in nats."""
    return float(special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q))

"""What a score is worth elsewhere: at sites that took no part, and at a new hospital."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedmri.evaluate.estimate import Estimate, scale_of
from fedmri.evaluate.hospitals.new_hospital import NewHospital, new_hospital, prior_for
from fedmri.reports import models
from fedmri.reports.models import Model
from fedmri.reports.statistics.contrast import Contrast
from fedmri.reports.statistics.intervals import Patients, estimate_of
from fedmri.reports.statistics.metrics import Measured, metric_of
from fedmri.reports.statistics.scores import Score
from fedmri.reports.statistics.scoring import Scorer
from fedmri.reports.statistics.verdicts import gap_verdict


@dataclass(frozen=True)
class Generalisation:
    """Primary metric at sites that took part, minus at those that did not."""

    label: str
    inside: Estimate
    outside: Estimate
    gap: Estimate
    verdict: str

    @property
    def relative(self) -> float:
        """The loss as a share of the score inside, in percent; "10 % lost" may mean either."""
        return 100 * self.gap.value / self.inside.value if self.inside.value else math.nan


def inside_of(model: Model) -> Patients:
    """Return the patients of the sites that took part."""
    return tuple(entry for entry in model.patients() if not models.is_external(entry[0]))


def estimate_of_sum(contrast: Contrast, metric: str | None = None) -> Estimate:
    """Return a sum with its interval, kept inside the range of a metric if it is a mean of one."""
    low, high = contrast.bounds
    if metric is not None:
        low, high = max(low, metric_of(metric).low), min(high, metric_of(metric).high)
    return estimate_of(contrast.value, low, high, len(contrast.keys))


def scores_by_site(model: Model, scorer: Scorer) -> dict[str, Score]:
    """Return the primary metric at each site that took part."""
    return {entry[0]: scorer.primary(model, (entry,)) for entry in inside_of(model)}


def generalisation(model: Model, scorer: Scorer, task: Measured) -> Generalisation | None:
    """Return what a model loses at sites that took no part, None where there are none."""
    outside = tuple(entry for entry in model.patients() if models.is_external(entry[0]))
    return _lost((model, inside_of(model)), (model, outside), scorer, task)


def left_out(rows: Sequence[Model], scorer: Scorer, task: Measured) -> Generalisation | None:
    """Return what sites lose by being left out of training, over the patients of all of them."""
    federated = [row for row in rows if row.group.role == "federated"]
    known = next((row for row in federated if not row.group.is_left_out), None)
    left = next((row for row in federated if row.group.is_left_out), None)
    if known is None or left is None:
        return None
    return _lost((known, inside_of(known)), (left, inside_of(left)), scorer, task)


Scored = tuple[Model, Patients]


def _lost(inside: Scored, outside: Scored, scorer: Scorer, task: Measured) -> Generalisation | None:
    """Return what a score inside loses outside; patients of both are paired."""
    if not inside[1] or not outside[1]:
        return None
    within, beyond = scorer.primary(*inside), scorer.primary(*outside)
    gain = 1 if task.is_higher_better else -1
    lost = estimate_of_sum(within.contrast.minus(beyond.contrast).times(gain))
    return Generalisation(
        label=outside[0].label,
        inside=within.estimate,
        outside=beyond.estimate,
        gap=lost,
        verdict=gap_verdict(lost, beyond.n_subjects, within.metric),
    )


def new_site(rows: Iterable[Model], scorer: Scorer, task: Measured) -> NewHospital | None:
    """Predict a new site from sites that were left out of training; no others can stand for it."""
    model = next(
        (row for row in rows if row.group.is_left_out and row.group.role == "federated"), None
    )
    if model is None:
        return None
    scores = list(scores_by_site(model, scorer).values())
    errors = [_standard_error(score.contrast) for score in scores]
    metric = metric_of(task.primary, task)
    scale = scale_of(metric.low, metric.high)
    return new_hospital(
        [score.value for score in scores],
        errors,
        scale=scale,
        prior=prior_for(metric.name, scale),
    )


def _standard_error(contrast: Contrast) -> float:
    return math.sqrt(contrast.spread.total) if contrast.has_spread else math.nan

"""What joining gave each hospital, and what each hospital gave to the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fedmri.arm import OWN
from fedmri.evaluate.comparisons.paired import holm
from fedmri.evaluate.estimate import Estimate
from fedmri.reports import models
from fedmri.reports.elsewhere import estimate_of_sum, inside_of
from fedmri.reports.models import Model
from fedmri.reports.results import Results
from fedmri.reports.statistics.intervals import Patients
from fedmri.reports.statistics.metrics import Measured
from fedmri.reports.statistics.scoring import Scorer
from fedmri.reports.statistics.verdicts import Verdict, judge


@dataclass(frozen=True)
class Benefit:
    """How much better a model of many hospitals is on one hospital's test patients.

    Attributes:
        site: The hospital.
        label: The model, such as ``federated`` or ``personalised (own site)``.
        gain: Its score minus that of the hospital's own model, so signed that more is better.
        p_value: Two-sided, of no gain.
        p_adjusted: Adjusted for all hospitals and models (Holm): what the verdict rests on.
        verdict: What is shown.
    """

    site: str
    label: str
    gain: Estimate
    p_value: float
    p_adjusted: float = math.nan
    verdict: Verdict = "cannot be said"


@dataclass(frozen=True)
class Given:
    """What the other hospitals lose where one is left out of training.

    Attributes:
        site: The hospital that was left out.
        gain: Score with it minus score without it, on the others' test patients; more is better.
        p_value: Two-sided, of no difference.
        p_adjusted: Adjusted for all hospitals (Holm).
        verdict: What is shown of the model with the hospital.
    """

    site: str
    gain: Estimate
    p_value: float
    p_adjusted: float = math.nan
    verdict: Verdict = "cannot be said"


def benefits(rows: Sequence[Model], scorer: Scorer, task: Measured) -> tuple[Benefit, ...]:
    """Return what the federated and the personalised model gain at each hospital."""
    own = next((row for row in rows if row.label == OWN), None)
    mains = [row for row in rows if not row.group.is_beside and not row.group.is_left_out]
    federated = next((row for row in mains if row.group.role == "federated"), None)
    if own is None or federated is None:
        return ()
    others = [federated, *(row for row in mains if row.group.role == "personalised")]
    found = [
        Benefit(site, row.label, *_gain(row, own, pair, scorer, task))
        for site, names in inside_of(own)
        for row in others
        if (pair := models.common(((site, names),), row.patients()))
    ]
    adjusted = holm([one.p_value for one in found])
    pairs = zip(found, adjusted, strict=True)
    return tuple(replace(one, p_adjusted=p, verdict=_verdict(one.gain, p)) for one, p in pairs)


def given(
    results: Results, rows: Sequence[Model], scorer: Scorer, task: Measured
) -> tuple[Given, ...]:
    """Return what each hospital gave, where arms without it were tested at the others."""
    federated = next((r for r in rows if r.group.role == "federated" and not r.group.part), None)
    if federated is None or federated.group.is_left_out:
        return ()
    found = list(_given(results, federated, scorer, task))
    adjusted = holm([one.p_value for one in found])
    pairs = zip(found, adjusted, strict=True)
    return tuple(replace(one, p_adjusted=p, verdict=_verdict(one.gain, p)) for one, p in pairs)


def _given(results: Results, federated: Model, scorer: Scorer, task: Measured) -> Iterator[Given]:
    tested = {label for label, _ in results.cases}
    for arm in results.comparison.arms:
        if arm.role == "federated" and arm.left_out and arm.label in tested:
            without = models.of_arm(results, arm.label)
            others = [site for site, _ in inside_of(federated) if site != arm.left_out]
            pair = models.common(models.only(federated.patients(), others), without.patients())
            if pair:
                yield Given(arm.left_out, *_gain(federated, without, pair, scorer, task))


def _gain(
    first: Model, second: Model, patients: Patients, scorer: Scorer, task: Measured
) -> tuple[Estimate, float]:
    """Return first minus second, so signed that more is better, and its p-value."""
    sign = 1 if task.is_higher_better else -1
    scores = scorer.primary(first, patients), scorer.primary(second, patients)
    contrast = scores[0].minus(scores[1]).times(sign)
    return estimate_of_sum(contrast), contrast.p_value


def _verdict(gain: Estimate, p_adjusted: float) -> Verdict:
    return judge(gain.value, p_adjusted, gain.n_subjects, is_higher_better=True)

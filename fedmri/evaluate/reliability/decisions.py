"""What probabilities are worth to a decision: net benefit, and leaving doubtful patients out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedmri.evaluate.arrays import Array, Flags, require_same_length, unfit
from fedmri.evaluate.estimate import LEVEL, Certainty, Estimate, mean_interval


@dataclass(frozen=True)
class Benefit:
    """Net benefit at one threshold: true positives, less false ones by what they cost.

    Attributes:
        threshold: Probability from which a patient is treated.
        model: Treating by the model.
        treat_all: Treating everybody.
        gain: Model minus the better of treating all and none.
    """

    threshold: float
    model: Estimate
    treat_all: float
    gain: Estimate


def decision_curve(
    probability: Array, is_positive: Flags, thresholds: Sequence[float], *, level: float = LEVEL
) -> tuple[Benefit, ...]:
    """Return net benefits, in true positives a patient; treating nobody has 0.

    Args:
        probability: Of each patient, shape ``(n,)``.
        is_positive: Shape ``(n,)``.
        thresholds: Each above 0 and below 1. One says that ``(1 - t) / t`` false positives are as
            bad as one missed patient.
        level: Coverage aimed at.

    Raises:
        UsageError: Lengths differ, or a threshold is not between 0 and 1 (U80).

    Source:
        Vickers and Elkin 2006, doi:10.1177/0272989X06295361.
    """
    require_same_length(probability=probability, is_positive=is_positive)
    if not all(0 < one < 1 for one in thresholds):
        raise unfit("thresholds", str(list(thresholds)), "numbers between 0 and 1")
    truth = np.asarray(is_positive, dtype=np.float64)
    return tuple(_benefit(probability, truth, one, level) for one in thresholds)


def _benefit(probability: Array, truth: Array, threshold: float, level: float) -> Benefit:
    worth = truth - (1 - truth) * threshold / (1 - threshold)
    by_model = worth * (probability >= threshold)
    treat_all = float(worth.mean())
    how = Certainty(level=level)
    reference = worth if treat_all > 0 else np.zeros_like(worth)
    return Benefit(
        threshold, mean_interval(by_model, how), treat_all, mean_interval(by_model - reference, how)
    )


@dataclass(frozen=True)
class RiskCoverage:
    """Errors among the patients that a model is most sure of.

    Attributes:
        coverage: Share of patients kept, ascending, shape ``(n,)``.
        risk: Mean error of them, shape ``(n,)``.
        area: Mean risk over all coverages.
        excess: Area above that of an order by the errors themselves.
    """

    coverage: Array
    risk: Array
    area: float
    excess: float

    def risk_at(self, coverage: float) -> float:
        """Return the error where the least sure patients go to a human."""
        n_kept = max(1, round(coverage * len(self.risk)))
        return float(self.risk[n_kept - 1])


def risk_coverage(confidence: Array, error: Array) -> RiskCoverage:
    """Return the mean error of the surest patients, for every share of them.

    Patients of one confidence are kept or left out together: each has their mean error.

    Args:
        confidence: Of each patient, shape ``(n,)``; higher is surer.
        error: Of each patient, shape ``(n,)``: 0 and 1 for classes, or 1 minus Dice, or years.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Geifman and El-Yaniv 2017, arXiv:1705.08500; Geifman et al. 2019, arXiv:1805.08206 (excess).
    """
    n = require_same_length(confidence=confidence, error=error)
    _, tie = np.unique(-confidence, return_inverse=True)
    shared = (np.bincount(tie, error) / np.bincount(tie))[tie]
    kept = np.arange(1, n + 1)
    risk = np.cumsum(shared[np.argsort(tie, kind="stable")]) / kept
    best = np.cumsum(np.sort(error)) / kept
    area = float(risk.mean())
    return RiskCoverage(kept / n, risk, area, area - float(best.mean()))

"""Whether probabilities can be taken at their word: calibration beside what chance gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedmri.evaluate.estimate import Estimate
from fedmri.evaluate.reliability.calibration import Line, brier, calibration_line, ece_beside_null
from fedmri.evaluate.reliability.decisions import Benefit, decision_curve, risk_coverage
from fedmri.reports.models import Model
from fedmri.reports.reliability.averaged import tested
from fedmri.reports.statistics.weighted import Array

LEAST_PATIENTS = 10
N_POINTS = 5
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))


@dataclass(frozen=True)
class Calibration:
    """How well a model's probabilities agree with what happened.

    Attributes:
        label: The model.
        n_subjects: Test patients.
        ece: Calibration error of the probability of the predicted class.
        null: Its mean for a perfect model of as many patients.
        p_value: Of an error as large under a perfect model.
        brier: Of the second of two classes; None for more classes.
        line: Slope and intercept of two classes; None for more, or where there is no fit.
        points: Mean probability, share that was right and patients, in bins of equal numbers.
        selected: Share of patients kept, the surest first, share of them that was wrong, and how
            many they are.
        decisions: Net benefit by threshold, of the second of two classes; empty for more.
    """

    label: str
    n_subjects: int
    ece: float
    null: float
    p_value: float
    brier: Estimate | None
    line: Line | None
    points: tuple[tuple[float, float, int], ...]
    selected: tuple[tuple[float, float, int], ...]
    decisions: tuple[Benefit, ...]


def calibrations(rows: Sequence[Model], seed: int) -> tuple[Calibration, ...]:
    """Return the calibration of each main model that gives probabilities of classes.

    Probabilities are means over the trainings of a patient. A row that is the mean of several
    models' scores has none of its own.
    """
    found = (_calibration(row, seed) for row in rows if row.is_main)
    return tuple(one for one in found if one is not None)


def _calibration(row: Model, seed: int) -> Calibration | None:
    said = tested(row)
    if said is None or not said.is_of_classes or len(said.truth) < LEAST_PATIENTS:
        return None
    shares, truth = said.predictions, said.classes
    confidence = shares.max(axis=1)
    hits = (shares.argmax(axis=1) == truth).astype(float)
    error = ece_beside_null(confidence, hits, np.random.default_rng(seed))
    is_binary = shares.shape[1] == 2
    positive = truth == 1
    has_both = is_binary and bool(positive.any()) and not bool(positive.all())
    return Calibration(
        row.label,
        len(truth),
        *(error.value, error.null, error.p_value),
        brier=brier(shares[:, 1], positive) if is_binary else None,
        line=calibration_line([(shares[:, 1], positive)]) if has_both else None,
        points=_points(confidence, hits),
        selected=_selected(confidence, hits),
        decisions=decision_curve(shares[:, 1], positive, THRESHOLDS) if has_both else (),
    )


def _selected(confidence: Array, hits: Array) -> tuple[tuple[float, float, int], ...]:
    curve = risk_coverage(confidence, 1 - hits)
    n_kept = [-(-len(hits) * part // N_POINTS) for part in range(1, N_POINTS + 1)]
    return tuple((n / len(hits), float(curve.risk[n - 1]), n) for n in n_kept)


def _points(confidence: Array, hits: Array) -> tuple[tuple[float, float, int], ...]:
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(N_POINTS, len(order)))
    return tuple((float(confidence[b].mean()), float(hits[b].mean()), len(b)) for b in bins)

"""Whether probabilities can be taken at their word: calibration beside what chance gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedmri.evaluate.estimate import Estimate
from fedmri.evaluate.reliability.calibration import Line, brier, calibration_line, ece_beside_null
from fedmri.evaluate.reliability.decisions import Benefit, decision_curve, risk_coverage
from fedmri.reports.elsewhere import inside_of
from fedmri.reports.models import Model, cases_of
from fedmri.reports.statistics.weighted import Array
from fedmri.tasks.task import Case

LEAST_PATIENTS = 10
N_POINTS = 5
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))


@dataclass(frozen=True)
class Calibration:
    """How well a model's probabilities agree with what happened.

    Attributes:
        label: The model.
        n_patients: Test patients.
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
    n_patients: int
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
    groups = [(row, row.group) for row in rows if row.group.reading != "mean"]
    shown = [row for row, group in groups if not (group.is_beside or group.is_reference)]
    found = (_calibration(row, seed) for row in shown)
    return tuple(one for one in found if one is not None)


def _calibration(row: Model, seed: int) -> Calibration | None:
    patients = inside_of(row)
    runs = [cases_of(run, patients) for run in row.runs]
    if not patients or not all(_is_of_classes(case) for run in runs for case in run):
        return None
    shares = np.mean([[case.prediction for case in run] for run in runs], axis=0)
    truth = np.array([int(float(case.truth)) for case in runs[0]])  # type: ignore[arg-type]  # one class
    if len(truth) < LEAST_PATIENTS:
        return None
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


def _is_of_classes(case: Case) -> bool:
    """Whether a patient's prediction is a probability for each class."""
    is_single = isinstance(case.truth, float) and case.truth == case.truth
    n = len(case.prediction)
    return (
        is_single and n > 1 and abs(sum(case.prediction) - 1) < 1e-6 and min(case.prediction) >= 0
    )


def _selected(confidence: Array, hits: Array) -> tuple[tuple[float, float, int], ...]:
    curve = risk_coverage(confidence, 1 - hits)
    n_kept = [-(-len(hits) * part // N_POINTS) for part in range(1, N_POINTS + 1)]
    return tuple((n / len(hits), float(curve.risk[n - 1]), n) for n in n_kept)


def _points(confidence: Array, hits: Array) -> tuple[tuple[float, float, int], ...]:
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(N_POINTS, len(order)))
    return tuple((float(confidence[b].mean()), float(hits[b].mean()), len(b)) for b in bins)

"""Intervals resample patients within sites, and metrics under weights are the task's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedmri.reports.statistics.intervals import draw, estimate_of, shuffle
from fedmri.reports.statistics.metrics import metric_of, parts_of, weighted_metric
from fedmri.reports.statistics.weighted import auc, panel
from fedmri.tasks.task import Case, Task


def subjects(n: int) -> tuple[str, ...]:
    """Return names of patients."""
    return tuple(f"sub-{i}" for i in range(n))


def cases_of_kind(kind: str, n: int) -> list[Case]:
    """Return patients with predictions that are right more often than not, ties among them."""
    stream = np.random.default_rng(3)
    cases = []
    for i in range(n):
        truth = float(i % 3 > 0)
        if kind == "classification":
            p = round(float(np.clip(stream.normal(0.4 + 0.3 * truth, 0.2), 0, 1)), 1)
            scores = {"predicted": float(p > 0.45), "is_correct": float((p > 0.45) == truth)}
            cases.append(Case("A", f"sub-{i}", 1, truth, (1 - p, p), scores))
        else:
            age = float(stream.uniform(20, 80))
            guess = (40 + 0.3 * age + float(stream.normal(0, 5)),)
            cases.append(Case("A", f"sub-{i}", 1, age, guess, {}))
    return cases


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("classification", "balanced_accuracy"),
        ("classification", "accuracy"),
        ("classification", "macro_f1"),
        ("classification", "auc"),
        ("classification", "brier"),
        ("regression", "mae"),
        ("regression", "rmse"),
        ("regression", "r2"),
        ("regression", "pearson"),
    ],
)
def test_a_weighted_metric_is_the_metric_of_repeated_patients(
    kind: str, name: str, request: pytest.FixtureRequest
) -> None:
    """Drawing a patient twice and weighing the patient by two is the same number."""
    task: Task = request.getfixturevalue(kind)
    cases = cases_of_kind(kind, 30)
    weights = draw((("A", subjects(30)),), 5, seed=1)
    patients = panel(cases)
    metric = weighted_metric(metric_of(name), patients)
    assert metric is not None
    for value, row in zip(metric(patients, weights), weights, strict=True):
        repeated = [case for case, n in zip(cases, row, strict=True) for _ in range(int(n))]
        assert value == pytest.approx(task.metrics(repeated)[name], rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("classification", "balanced_accuracy"),
        ("classification", "accuracy"),
        ("classification", "macro_f1"),
        ("classification", "auc"),
        ("classification", "brier"),
        ("regression", "mae"),
        ("regression", "rmse"),
        ("regression", "r2"),
        ("regression", "pearson"),
    ],
)
def test_influence_is_the_slope_of_the_metric(
    kind: str, name: str, request: pytest.FixtureRequest
) -> None:
    """One patient weighing a little more moves the metric by the patient's influence.

    With weight 1 + h the value moves by h / n * influence, to first order.
    """
    cases = cases_of_kind(kind, 30)
    patients, metric = panel(cases), metric_of(name)
    weighted, parts = weighted_metric(metric, patients), parts_of(metric, patients)
    assert weighted is not None
    assert parts is not None
    step = 1e-4
    value = weighted(patients, np.ones((1, 30)))[0]
    moved = (weighted(patients, 1 + step * np.eye(30)) - value) / step
    influence = np.mean([part.influence for part in parts], axis=0) / 30
    tolerance = 2e-3 if name == "auc" else 1e-4  # areas are weighed in single precision
    np.testing.assert_allclose(moved, influence, atol=tolerance)


def test_an_area_counts_ties_as_one_half() -> None:
    """Of the pairs (0.5, 0.5) and (0.5, 0.9) the first is a tie, the second won: 0.75."""
    score, is_positive = np.array([0.5, 0.5, 0.9]), np.array([False, True, True])
    areas = auc(score, is_positive, np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]))
    assert areas[0] == 0.75
    assert math.isnan(areas[1])  # no positive patient was drawn


def test_each_site_keeps_its_number_of_patients() -> None:
    """Patients are drawn within their site: 3 of the first, 5 of the second, in every resample."""
    weights = draw((("A", subjects(3)), ("B", subjects(5))), 200, seed=0)
    assert (weights[:, :3].sum(axis=1) == 3).all()
    assert (weights[:, 3:].sum(axis=1) == 5).all()
    assert weights[:, 3:].std() > 0


def test_a_site_is_drawn_alike_whoever_stands_beside_it() -> None:
    """A site's own interval and its part in the interval over all rest on the same draws."""
    alone = draw((("B", subjects(5)),), 50, seed=0)
    beside = draw((("A", subjects(3)), ("B", subjects(5))), 50, seed=0)
    np.testing.assert_array_equal(alone, beside[:, 3:])
    assert (draw((("B", subjects(5)),), 50, seed=1) != alone).any()


@pytest.mark.parametrize(
    ("low", "high", "n_subjects"),
    [(0.7, 0.7 + 1e-12, 9), (math.nan, math.nan, 9), (0.6, 0.8, 1)],
)
def test_there_is_no_interval_where_none_can_be_had(
    low: float, high: float, n_subjects: int
) -> None:
    """What did not vary, what is not defined, and one patient: never 0.7 to 0.7."""
    assert not estimate_of(0.7, low, high, n_subjects).has_interval


def test_dealing_patients_to_sites_keeps_the_sizes_of_sites() -> None:
    """Chance moves patients between sites and makes no site larger."""
    dealt = shuffle([2, 3], 40, seed=0)
    assert ((dealt == 0).sum(axis=1) == 2).all()
    assert ((dealt == 1).sum(axis=1) == 3).all()
    assert len({row.tobytes() for row in dealt}) > 5

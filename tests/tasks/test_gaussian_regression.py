"""A value and its deviation: the right likelihood, deviations that cover, and ranges that hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from fedmri.reports.statistics.metrics import metric_of, parts_of
from fedmri.reports.statistics.weighted import panel
from fedmri.tasks.kinds.gaussian_regression import LEAST_LOSS, GaussianRegression
from fedmri.tasks.task import MOST_LOSS, Case, Reading

AGE = GaussianRegression("age", centre=50.0, scale=20.0)


def case(truth: float, *rows: tuple[float, float]) -> Case:
    """Return a patient's result from one or several examples."""
    return AGE.case("north", "s", [Reading(len(rows), truth, rows)])


def test_the_loss_is_the_likelihood_of_a_normal_distribution() -> None:
    """Against SciPy's, of what is predicted; the scale is a constant shift of it."""
    random = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 2, generator=random).double() * 3
    target = 50 + 20 * torch.randn(50, generator=random).double()
    value, deviation = AGE.predict(outputs).unbind(1)
    wanted = -norm.logpdf(target, value, deviation).mean()
    found = AGE.mean_loss(outputs, target) + math.log(AGE.scale)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


def test_what_is_learned_covers() -> None:
    """Two groups of patients, one told ten times better: each has its own deviation."""
    random = torch.Generator().manual_seed(1)
    is_noisy = (torch.rand(2000, generator=random) < 0.5).float()
    deviation = torch.where(is_noisy == 1, 10.0, 1.0)
    target = 60 + deviation * torch.randn(2000, generator=random)
    network = nn.Linear(1, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        torch.autograd.backward(AGE.mean_loss(network(is_noisy[:, None]), target))
        optimizer.step()
    rows = AGE.predict(network(is_noisy[:, None]).detach())
    for group, wanted in ((0, 1.0), (1, 10.0)):
        assert rows[is_noisy == group, 1].mean() == pytest.approx(wanted, rel=0.1)
    pairs = zip(target.tolist(), rows.tolist(), strict=True)
    found = AGE.metrics([case(truth, (value, spread)) for truth, (value, spread) in pairs])
    # 0.95, within three deviations of a share of 2000
    assert found["coverage_95"] == pytest.approx(0.95, abs=0.015)


def test_several_examples_are_one_mixture() -> None:
    """Mean 12; variance: the mean of 9 and 16, and 4 between the means."""
    value, deviation = case(12.0, (10.0, 3.0), (14.0, 4.0)).prediction
    assert value == 12
    assert deviation == pytest.approx(math.sqrt(12.5 + 4))


@pytest.mark.parametrize("row", [(math.nan, 1.0), (50.0, math.inf), (-math.inf, math.nan)])
def test_what_is_not_finite_is_as_wrong_as_can_be(row: tuple[float, float]) -> None:
    """It is far off and sure of it."""
    [found] = AGE.clipped([case(40.0, row)])
    assert found.scores["absolute_error"] == AGE.max_error * AGE.scale
    assert found.scores["gaussian_nll"] == MOST_LOSS
    assert found.scores["coverage_95"] == 0


def test_every_patient_lies_within_the_declared_ranges() -> None:
    """Whatever a network answers, also far out."""
    random = np.random.default_rng(0)
    outputs = torch.from_numpy(random.normal(0, 1e3, (200, 2)))
    rows = AGE.predict(outputs).tolist()
    truths = random.normal(50, 20, 200).tolist()
    clipped = AGE.clipped(
        [case(t, (value, spread)) for t, (value, spread) in zip(truths, rows, strict=True)]
    )
    for one in clipped:
        assert LEAST_LOSS <= one.scores["gaussian_nll"] <= MOST_LOSS
        assert one.scores["absolute_error"] <= AGE.max_error * AGE.scale * (1 + 1e-12)
    assert set(AGE.metrics(clipped)) == AGE.reported == set(AGE.ranges) - {"loss"}


def test_metrics_have_intervals_and_parts() -> None:
    """Three of four patients lie inside; the report can say how sure that is."""
    some = [case(50 + shift, (50.0, 10.0)) for shift in (0.0, 19.0, -19.0, 20.0)]
    found = AGE.metrics(some)
    assert found["coverage_95"] == 0.75
    assert found["mae"] == pytest.approx(14.5)
    for name in ("coverage_95", "gaussian_nll"):
        parts = parts_of(metric_of(name, AGE), panel(some))
        assert parts is not None
        assert parts[0].value == pytest.approx(found[name])


def test_baselines_answer_a_deviation_too() -> None:
    """The guess that of the training patients, the linear model that of its errors."""
    random = np.random.default_rng(2)
    features = random.normal(size=(400, 3))
    truths = 50 + features @ np.array([5.0, 0.0, -3.0]) + random.normal(0, 2, 400)
    value, deviation = AGE.guess(truths.tolist())
    assert (value, deviation) == pytest.approx((truths.mean(), truths.std()))
    rows = AGE.linear(features, truths, np.ones(400), 1.0)(features)
    assert rows.shape == (400, 2)
    assert rows[0, 1] == pytest.approx(2.0, rel=0.1)
    assert AGE.guess([40.0])[1] > 0

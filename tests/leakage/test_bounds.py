"""Statistics of the meter: areas, intervals and bounds against what is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fedmri.errors import PrivacyError
from fedmri.evaluate.proportions import rate_bounds
from fedmri.leakage.epsilon import epsilon_at_least
from fedmri.leakage.membership import auc_interval, membership


def randomized_response(epsilon: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bits of a mechanism that is exactly epsilon private: true with e^eps/(1+e^eps)."""
    source = np.random.default_rng(seed)
    is_true = source.random((2, n)) < math.exp(epsilon) / (1 + math.exp(epsilon))
    return is_true[0].astype(float), 1.0 - is_true[1]


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 3.0])
def test_the_bound_is_below_the_epsilon_of_randomized_response(epsilon: float) -> None:
    """In 200 audits no more than 5 % (and chance) lie above it, and most are near it."""
    bounds = [epsilon_at_least(*randomized_response(epsilon, 4000, s), 0, s) for s in range(200)]
    n_wrong = sum(bound > epsilon for bound in bounds)
    assert n_wrong <= stats.binom.ppf(0.999, 200, 0.05)
    assert np.median(bounds) > 0.75 * epsilon - 0.1


def test_the_bound_holds_for_leaving_an_item_out_as_well() -> None:
    """Where only the absence of the item is certain, the swapped event finds it."""
    source = np.random.default_rng(0)
    members = np.zeros(2000)
    others = -(source.random(2000) < 0.5).astype(float)
    assert epsilon_at_least(members, others, 0, 0) > 4


def test_the_bound_of_the_gaussian_mechanism_is_below_its_epsilon() -> None:
    """Noise of 1 on a difference of 1 is (4.38, 1e-5) private (Balle and Wang 2018)."""
    source = np.random.default_rng(0)
    low = epsilon_at_least(source.normal(1, 1, 20_000), source.normal(0, 1, 20_000), 1e-5, 0)
    assert 0.8 < low < 4.38


def test_choosing_the_best_of_many_thresholds_finds_nothing_in_chance() -> None:
    """Without a difference, exact intervals of both rates lie apart in under 1 of 100 audits."""
    source = np.random.default_rng(0)
    pairs = [(source.normal(size=200), source.normal(size=200)) for _ in range(400)]
    bounds = [epsilon_at_least(*pair, 0, seed) for seed, pair in enumerate(pairs)]
    assert sum(bound > 0 for bound in bounds) <= 4


def test_few_scores_and_delta_bound_nothing() -> None:
    """With three patients on a side there is no bound; delta takes its part off the rate."""
    assert epsilon_at_least(np.ones(3), np.zeros(100), 0, 0) == 0
    bits = randomized_response(3.0, 500, 0)
    assert epsilon_at_least(*bits, 0.5, 0) < epsilon_at_least(*bits, 0, 0)
    assert epsilon_at_least(*bits, 0.99, 0) == 0


def test_bounds_on_rates_are_those_of_clopper_and_pearson() -> None:
    """The same as SciPy's exact interval, at 0 and n too."""
    for count in (0, 1, 7, 20):
        exact = stats.binomtest(count, 20).proportion_ci(0.95, "exact")
        low, high = rate_bounds(np.array([count], float), np.array([20.0]), 0.025)
        assert (low[0], high[0]) == pytest.approx((exact.low, exact.high))


def test_the_area_counts_pairs() -> None:
    """Of 2 x 3 pairs, 4 have the member lower and one is even: 4.5 / 6."""
    score = membership(np.array([1.0, 3.0]), np.array([2.0, 3.0, math.inf]))
    assert score.auc == pytest.approx(4.5 / 6)
    assert score.tpr_at_few == 0.5  # the loss of 1 alone is below every other one
    assert score.low < score.auc < score.high


@pytest.mark.parametrize("true_area", [0.5, 0.76])
def test_the_interval_covers_the_true_area(true_area: float) -> None:
    """In 400 draws from two normals, about 95 % of the intervals hold the true area."""
    shift = math.sqrt(2) * float(stats.norm.ppf(true_area))
    source = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        score = membership(source.normal(-shift, 1, 20), source.normal(0, 1, 25))
        hits += score.low <= true_area <= score.high
    assert 0.92 <= hits / 400 <= 0.99


def test_a_perfect_area_of_few_patients_is_not_sure() -> None:
    """Three members below three others may be chance; three hundred are not."""
    assert auc_interval(1.0, 3, 3)[0] < 0.6
    assert auc_interval(1.0, 300, 300)[0] > 0.98
    assert auc_interval(1.0, 300, 300)[1] == 1
    assert auc_interval(0.0, 3, 3)[0] == 0


def test_losses_that_are_none_are_refused() -> None:
    """No patients, or a loss that is not a number."""
    for members, others in [([], [1.0]), ([1.0], []), ([math.nan], [1.0])]:
        with pytest.raises(PrivacyError, match="P61"):
            membership(np.array(members), np.array(others))

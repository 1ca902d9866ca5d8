"""What aggregates of sites say together is exact, or says that it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedmri.server.views.pooling import BY_SITE, EXACT, ROOT, SUM, SiteScores, estimate, pool

DICE = {"a": [0.9, 0.8, 0.1], "b": [0.5], "c": [0.7, 0.6]}
ERRORS = {"a": [1.0, -3.0], "b": [2.0]}


def scores(**values: tuple[int, float]) -> list[SiteScores]:
    """Return the aggregates of sites: patients and the value of a metric called x."""
    return [SiteScores(site, n, {"x": value}) for site, (n, value) in values.items()]


def test_a_mean_over_patients_is_exact_from_the_sites_means() -> None:
    """Sites of unequal size weigh by their patients: the mean is that of all patients."""
    sent = [
        SiteScores(s, len(values), {"dice": float(np.mean(values))}) for s, values in DICE.items()
    ]
    pooled = pool(sent, "dice")
    assert pooled.estimate.value == pytest.approx((0.9 + 0.8 + 0.1 + 0.5 + 0.7 + 0.6) / 6)
    assert (pooled.estimate.n_subjects, pooled.how) == (6, EXACT)


def test_a_root_mean_square_is_exact_from_the_sites() -> None:
    """Squares are averaged, not roots."""
    sent = [
        SiteScores(site, len(errors), {"rmse": math.sqrt(np.mean(np.square(errors)))})
        for site, errors in ERRORS.items()
    ]
    pooled = pool(sent, "rmse")
    assert pooled.estimate.value == pytest.approx(math.sqrt((1 + 9 + 4) / 3))
    assert pooled.how == ROOT


def test_counts_are_summed() -> None:
    """Missed lesions of two hospitals add up."""
    pooled = pool(
        [SiteScores("a", 9, {"n_missed": 2.0}), SiteScores("b", 1, {"n_missed": 1.0})], "n_missed"
    )
    assert (pooled.estimate.value, pooled.how) == (3.0, SUM)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc", "r2"])
def test_what_needs_single_patients_is_said_not_to_be_exact(metric: str) -> None:
    """Such a value is a mean of sites and has no interval."""
    sent = [SiteScores("a", 3, {metric: 1.0}), SiteScores("b", 1, {metric: 0.0})]
    pooled = pool(sent, metric)
    assert (pooled.how, pooled.estimate.value) == (BY_SITE, 0.75)
    assert not pooled.estimate.has_interval


def test_a_site_that_withholds_or_has_no_value_is_left_out() -> None:
    """Neither a site without patients nor one whose metric is not defined moves the mean."""
    sent = scores(a=(4, 0.5), b=(0, 0.0), c=(3, math.nan))
    pooled = pool([*sent, SiteScores("d", 2, {})], "x")
    assert (pooled.estimate.value, pooled.sites, pooled.estimate.n_subjects) == (0.5, ("a",), 4)


def test_nothing_sent_is_nothing_said() -> None:
    """Without a score there is no value and no interval."""
    pooled = pool([], "dice")
    assert math.isnan(pooled.estimate.value)
    assert not pooled.estimate.has_interval


def test_the_interval_of_a_perfect_score_is_known_in_closed_form() -> None:
    """All of n scores at the top: q**n = 0.025 bounds the expectation from below."""
    found = estimate("dice", 1.0, 10)
    assert found.high == 1.0
    assert found.low == pytest.approx(0.025 ** (1 / 10))
    brier = estimate("brier", 0.0, 10)  # best of a score from 0 to 2
    assert brier.low == 0.0
    assert brier.high == pytest.approx(2 * (1 - 0.025 ** (1 / 10)))


@pytest.mark.parametrize("n", [5, 30])
def test_the_interval_covers_whatever_patients_score(n: int) -> None:
    """Even coins, the widest scores that there are, and two unlike sites: 95 % or more."""
    stream = np.random.default_rng(n)
    chances = np.where(np.arange(n) < n // 2, 0.9, 0.5)
    truth = float(chances.mean())
    means = (stream.random((2000, n)) < chances).mean(axis=1)
    found = {mean: estimate("dice", float(mean), n) for mean in np.unique(means)}
    is_covered = [found[mean].low <= truth <= found[mean].high for mean in means]
    assert np.mean(is_covered) >= 0.95
    assert all(one.low <= one.value <= one.high for one in found.values())

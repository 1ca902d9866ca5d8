"""Calibration, conformal sets and decisions: laws, and two libraries as independent witnesses."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import special

from fedmri.errors import UsageError
from fedmri.evaluate.reliability.calibration import (
    brier,
    calibration_line,
    ece,
    ece_beside_null,
    temperature,
)
from fedmri.evaluate.reliability.conformal import (
    calibrate_sets,
    calibrated,
    class_scores,
    conformal_quantile,
    coverage_by_site,
    prediction_intervals,
    prediction_sets,
)
from fedmri.evaluate.reliability.decisions import decision_curve, risk_coverage

RNG = np.random.default_rng(0)


def noisy(n: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return probabilities that are too extreme by a factor of 2, and truths."""
    z = RNG.standard_normal(n)
    return special.expit(2 * z), RNG.random(n) < special.expit(z)


def test_the_line_is_that_of_a_logistic_fit_on_pooled_patients() -> None:
    """Sums of three sites give what statsmodels gives on all patients; errors too (robust)."""
    import statsmodels.api as sm

    probability, truth = noisy(120)
    parts = np.array_split(np.arange(120), 3)
    found = calibration_line([(probability[own], truth[own]) for own in parts])
    design = sm.add_constant(special.logit(probability))
    wanted = sm.Logit(truth.astype(float), design).fit(disp=0, cov_type="HC1")
    assert found.slope.value == pytest.approx(wanted.params[1], abs=1e-6)
    half = (found.slope.high - found.slope.low) / 2 / 1.98027  # t(0.975, 118)
    assert half == pytest.approx(wanted.bse[1], rel=0.01)
    large = sm.GLM(
        truth.astype(float),
        np.ones(120),
        family=sm.families.Binomial(),
        offset=special.logit(probability),
    ).fit()
    assert found.intercept.value == pytest.approx(large.params[0], abs=1e-6)


def test_probabilities_that_are_too_extreme_have_a_slope_below_one() -> None:
    """Doubled logits have a slope of one half."""
    found = calibration_line([noisy(4000)])
    assert found.slope.low < 0.5 < found.slope.high < 1


def test_a_perfect_separation_has_no_slope() -> None:
    """The best slope is infinite: NaN, and not some large number."""
    found = calibration_line([(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]) > 0)])
    assert math.isnan(found.slope.value)


def test_the_temperature_of_sites_is_that_of_pooled_patients() -> None:
    """Logits that were multiplied by 3 have a temperature near 3, by sums as in one place."""
    logits = RNG.normal(0, 1, (600, 3))
    truth = (special.softmax(logits, axis=1).cumsum(axis=1) < RNG.random((600, 1))).sum(axis=1)
    parts = np.array_split(np.arange(600), 4)
    by_sums = temperature([(3 * logits[own], truth[own]) for own in parts])
    assert by_sums == pytest.approx(temperature([(3 * logits, truth)]), abs=1e-9)
    assert by_sums == pytest.approx(3 * temperature([(logits, truth)]), rel=1e-9)
    assert 2.4 < by_sums < 3.8


def test_a_model_that_is_always_right_has_no_temperature() -> None:
    """Its best temperature is 0; a number would be that of the last step."""
    with pytest.raises(UsageError, match="temperature"):
        temperature([(np.eye(3), np.arange(3))])
    with pytest.raises(UsageError, match="temperature"):
        temperature([(np.log([[0.9, 0.1]] * 20), np.zeros(20, dtype=np.intp))])


def test_a_calibrated_model_is_beside_its_null() -> None:
    """The error of a perfect model of 50 patients is not small, and its null says so."""
    confidence = RNG.random(50)
    calm = ece_beside_null(confidence, (RNG.random(50) < confidence).astype(float), RNG)
    assert calm.null > 0.1
    wrong = ece_beside_null(confidence, (RNG.random(50) > confidence).astype(float), RNG)
    assert wrong.p_value < 0.01
    assert wrong.value > ece(confidence, np.round(confidence), 1)


def test_brier_of_a_coin_is_one_quarter() -> None:
    """A probability of one half is one half away from every truth."""
    assert brier(np.full(8, 0.5), np.arange(8) < 3).value == 0.25


def test_too_few_calibration_patients_promise_everything() -> None:
    """Eight of a coverage of 0.9 are too few: every class is in the set. Nine are enough."""
    assert math.isinf(conformal_quantile(np.arange(8.0), 0.9))
    assert conformal_quantile(np.arange(9.0), 0.9) == 8.0


@pytest.mark.parametrize("kind", ["lac", "aps"])
def test_sets_cover_as_promised_at_each_site(kind: Any) -> None:
    """Of 4,000 new patients of two sites about 0.9; a site that differs only by its own limit.

    Adaptive sets may hold more: the last class always has a mass of 1.
    """
    logits = RNG.normal(0, 1, (6000, 3))
    sites = np.where(np.arange(6000) % 2 == 0, "plain", "harder")
    sharp = np.where(sites == "plain", 1.0, 0.2)[:, None]
    true = special.softmax(logits * sharp, axis=1)
    truth = (true.cumsum(axis=1) < RNG.random((6000, 1))).sum(axis=1)
    said, old = special.softmax(2 * logits, axis=1), np.arange(6000) < 2000
    found = calibrate_sets(said[old], truth[old], 0.9, sites=sites[old], kind=kind)
    for own in (None, sites[~old]):
        sets = prediction_sets(said[~old], found, sites=own, kind=kind)
        covered = coverage_by_site(sets[np.arange(4000), truth[~old]], sites[~old])
        names = ("", "plain", "harder") if own is not None else ("",)
        most = 0.94 if kind == "lac" else 1.0
        assert all(0.87 < covered[name].value <= most for name in names)
        if own is None and kind == "lac":
            assert covered["harder"].high < covered["plain"].low


def test_limits_are_those_of_mapie() -> None:
    """A library that shares no line with ours gives the same sets and intervals."""
    from mapie.classification import SplitConformalClassifier
    from mapie.regression import SplitConformalRegressor
    from sklearn.linear_model import LinearRegression, LogisticRegression

    features = RNG.standard_normal((300, 2))
    labels = (features[:, 0] + RNG.standard_normal(300) > 0).astype(int)
    model = LogisticRegression().fit(features[:100], labels[:100])
    told = model.predict_proba(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = SplitConformalClassifier(model, confidence_level=0.9, prefit=True)
        theirs.conformalize(features[100:200], labels[100:200])
        wanted = theirs.predict_set(features[200:])[1][:, :, 0]
    found = calibrate_sets(told[100:200], labels[100:200], 0.9)
    np.testing.assert_array_equal(prediction_sets(told[200:], found), wanted)
    value = features[:, 1] + RNG.standard_normal(300)
    line = LinearRegression().fit(features[:100], value[:100])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = SplitConformalRegressor(line, confidence_level=0.9, prefit=True)
        other.conformalize(features[100:200], value[100:200])
        ends = other.predict_interval(features[200:])[1][:, :, 0]
    predicted = line.predict(features)
    limits = calibrated(np.abs(value - predicted)[100:200], 0.9)
    np.testing.assert_allclose(prediction_intervals(predicted[200:], limits), ends)


def test_adaptive_sets_add_up_from_the_most_probable() -> None:
    """Probabilities .5, .3, .2: masses .5, .8, 1."""
    scores = class_scores(np.array([[0.3, 0.5, 0.2]]), "aps")
    assert scores[0] == pytest.approx([0.8, 0.5, 1.0])


def test_net_benefit_is_that_of_its_formula() -> None:
    """Of ten: three true and one false positive at 0.2: 0.3 - 0.1 * 0.25; all: 0.4 - 0.6 * 0.25."""
    probability = np.array([0.9, 0.8, 0.7, 0.1, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1])
    truth = np.arange(10) < 4
    (one,) = decision_curve(probability, truth, [0.2])
    assert one.model.value == pytest.approx(0.3 - 0.1 * 0.25)
    assert one.treat_all == pytest.approx(0.4 - 0.6 * 0.25)
    assert one.gain.value == pytest.approx(one.model.value - one.treat_all)


def test_a_model_that_calls_everybody_gains_nothing() -> None:
    """It is the reference itself, whatever the threshold."""
    for one in decision_curve(np.ones(20), np.arange(20) < 9, [0.1, 0.4]):
        assert one.gain.value == pytest.approx(0)


def test_leaving_doubtful_patients_out_lowers_the_risk_of_a_good_order() -> None:
    """Errors in the order of doubt have no excess; the other way round it is largest."""
    error = np.array([0.0, 0.0, 1.0, 1.0])
    good = risk_coverage(np.array([0.9, 0.8, 0.3, 0.2]), error)
    bad = risk_coverage(np.array([0.2, 0.3, 0.8, 0.9]), error)
    assert good.risk.tolist() == pytest.approx([0, 0, 1 / 3, 0.5])
    assert good.excess == pytest.approx(0)
    assert bad.excess > 0
    assert good.risk_at(0.5) == 0
    ties = risk_coverage(np.ones(4), error)
    assert ties.risk.tolist() == [0.5] * 4

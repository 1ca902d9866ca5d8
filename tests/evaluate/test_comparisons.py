"""Comparisons claim what patients show: margins, gaps, subgroups, and worth of joining."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fedmri.errors import UsageError
from fedmri.evaluate.comparisons.gap import gap, gap_of_scores, gap_of_shares, verdict_of
from fedmri.evaluate.comparisons.joining import HospitalScores, contributions, worth_joining
from fedmri.evaluate.comparisons.paired import (
    holm,
    mcnemar,
    non_inferiority,
    paired_areas,
    paired_means,
    wilcoxon,
)
from fedmri.evaluate.comparisons.subgroups import age_bands, subgroups
from fedmri.evaluate.estimate import Estimate, mean_interval

RNG = np.random.default_rng(0)
BASE = RNG.normal(0.7, 0.1, 60)


def test_paired_means_are_students_test() -> None:
    """Without sites, scipy's paired t test; adding a constant to both changes nothing."""
    other = BASE + RNG.normal(0.02, 0.05, 60)
    found = paired_means(other, BASE)
    wanted = stats.ttest_rel(other, BASE)
    assert found.p_value == pytest.approx(wanted.pvalue)
    ends = wanted.confidence_interval()
    assert (found.difference.low, found.difference.high) == pytest.approx((ends.low, ends.high))
    assert paired_means(other + 5, BASE + 5).p_value == pytest.approx(found.p_value)


def test_trainings_are_averaged_and_are_no_patients() -> None:
    """Ten copies of a training say no more than one."""
    other = BASE + RNG.normal(0.02, 0.05, 60)
    often = paired_means(np.tile(other, (10, 1)), np.tile(BASE, (10, 1)))
    assert often.p_value == pytest.approx(paired_means(other, BASE).p_value)
    assert often.difference.n_subjects == 60


def test_differences_between_sites_do_not_widen_the_interval() -> None:
    """A site that gains 0.3 and one that loses 0.3: the spread within sites counts."""
    sites = np.repeat(["a", "b"], 30)
    other = BASE + np.where(sites == "a", 0.3, -0.3) + RNG.normal(0, 0.01, 60)
    assert paired_means(other, BASE, sites=sites).error < 0.1 * paired_means(other, BASE).error


def test_four_patients_that_agree_are_no_proof() -> None:
    """No sign test of four patients is below 1/8, however alike their gains are."""
    gain = np.array([0.1, 0.1, 0.1, 0.1001])
    assert paired_means(BASE[:4] + gain, BASE[:4]).p_value == pytest.approx(0.125)


def test_no_difference_is_not_equality() -> None:
    """Six noisy patients: p is large, and yet nothing is shown to be as good."""
    first = BASE[:6] + np.array([0.2, -0.2, 0.15, -0.15, 0.1, -0.1])
    found = paired_means(first, BASE[:6])
    assert found.p_value > 0.5
    assert non_inferiority(found, 0.01).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [(0.05, "superior"), (-0.002, "non-inferior"), (-0.02, "inconclusive"), (-0.06, "inferior")],
)
def test_a_margin_decides_between_four_verdicts(shift: float, verdict: str) -> None:
    """Standard error 0.002, margin 0.02: each side of 0 and of the margin."""
    noise = np.resize([0.0155, -0.0155], 60)
    found = paired_means(BASE + shift + noise, BASE)
    assert found.error == pytest.approx(0.002, rel=0.05)
    assert non_inferiority(found, 0.02).verdict == verdict
    error = paired_means(BASE - shift + noise, BASE)  # of an error, where lower is better
    assert non_inferiority(error, 0.02, is_higher_better=False).verdict == verdict


def test_a_margin_is_above_zero() -> None:
    """A margin of 0 asks for superiority."""
    with pytest.raises(UsageError, match="margin"):
        non_inferiority(paired_means(BASE, BASE[::-1]), 0.0)


def test_areas_are_compared_on_the_same_patients() -> None:
    """A model against itself differs by nothing; a better one by more than its error."""
    truth = np.arange(80) % 2 == 0
    good, poor = truth + 0.5 * RNG.standard_normal(80), RNG.standard_normal(80)
    assert paired_areas(good, good, truth).difference.value == 0
    found = paired_areas(good, poor, truth)
    assert found.difference.low > 0
    assert found.p_value < 0.001


def test_exact_tests_of_pairs() -> None:
    """Five to none: 2 / 32; nothing differs: 1."""
    first = np.array([True] * 5 + [False] * 5)
    assert mcnemar(first, np.zeros(10, bool)) == pytest.approx(2 / 32)
    assert mcnemar(first, first) == 1.0
    assert wilcoxon(BASE, BASE) == 1.0
    assert wilcoxon(BASE[:6] + np.arange(1, 7), BASE[:6]) == pytest.approx(2 / 64)


def test_holm_is_that_of_statsmodels() -> None:
    """Adjusted p-values of many comparisons; one that is not defined stays out."""
    from statsmodels.stats.multitest import multipletests

    p = RNG.random(12) ** 2
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1].tolist())
    first, none, second = holm([0.01, math.nan, 0.04])
    assert (first, second) == (0.02, 0.04)
    assert math.isnan(none)


@pytest.mark.parametrize(
    ("low", "high", "n", "verdict"),
    [
        (0.01, 0.09, 50, "pass"),
        (0.11, 0.3, 50, "fail"),
        (0.05, 0.15, 50, "inconclusive"),
        (0.01, 0.02, 9, "inconclusive"),
        (math.nan, math.nan, 50, "inconclusive"),
    ],
)
def test_the_verdict_of_a_gap_is_that_of_its_interval(
    low: float, high: float, n: int, verdict: str
) -> None:
    """At ten points; with nine patients and without an interval nothing passes or fails."""
    assert verdict_of(low, high, n) == verdict


def test_the_same_loss_passes_by_its_patients() -> None:
    """99.54 to 94.12 on 2,000 patients passes, on 20 it does not; 83 to 76 on ten says nothing."""
    assert gap_of_shares((0.9954, 1000), (0.9412, 2000)).verdict == "pass"
    assert gap_of_shares((0.9954, 1000), (0.9412, 20)).verdict == "inconclusive"
    seed = gap_of_shares((0.83, 100), (0.76, 10))
    assert seed.verdict == "inconclusive"
    assert seed.points.value == pytest.approx(7)
    assert seed.relative == pytest.approx(100 * 7 / 83)
    assert "8.4 % of the score inside" in seed.sentence()


def test_a_gap_of_scores_is_in_points() -> None:
    """Dice .8 inside and .5 outside, with little spread: 30 points, and a failure."""
    inside, outside = (centre + 0.02 * RNG.standard_normal(40) for centre in (0.8, 0.5))
    found = gap_of_scores(inside, outside)
    assert found.verdict == "fail"
    assert found.points.low < 30 < found.points.high
    assert gap(Estimate(0.8, math.nan, math.nan, 5), Estimate(0.5, 0.4, 0.6, 50)).sentence()


def test_subgroups_are_compared_with_the_rest_and_adjusted() -> None:
    """Of four groups the one that is worse is seen; the others are not called."""
    sex = np.resize(["F", "M"], 200)
    field = np.resize([1.5, 1.5, 3.0, 3.0], 200)
    score = 0.8 + 0.05 * RNG.standard_normal(200) - 0.1 * (field == 1.5)
    found = {
        (one.attribute, one.group): one
        for one in subgroups(lambda own: mean_interval(score[own]), {"sex": sex, "field": field})
    }
    worse = found["field", "1.5"]
    assert worse.against_rest.high < 0
    assert worse.p_adjusted < 0.001
    assert found["sex", "F"].p_adjusted > 0.05
    assert worse.score.n_subjects == 100


def test_ages_fall_into_bands() -> None:
    """An age on an edge belongs to the band above."""
    assert age_bands(np.array([39.9, 40, 59, 60]), (40, 60)).tolist() == [
        "<40", "40-60", "40-60", ">=60",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="ages"):
        age_bands(np.array([math.nan]), (40,))


def test_joining_is_judged_for_each_hospital() -> None:
    """One gains, one loses, one shows nothing, one has too few patients."""
    noise = np.resize([0.01, -0.01, 0.02, -0.02], 20)
    own = BASE[:20]
    hospitals = [
        HospitalScores("North", own, own + 0.1 + noise),
        HospitalScores("South", own, own - 0.1 + noise),
        HospitalScores("East", own, own + 0.001 + noise),
        HospitalScores("West", own[:4], own[:4] + 0.3),
        HospitalScores("Centre", own, own - 0.1 + noise, own + 0.05 + noise),
    ]
    found = {one.hospital: one for one in worth_joining(hospitals, metric="Dice")}
    assert [one.worth for one in found.values()] == [
        "worth joining", "not worth joining", "not shown", "too few patients", "worth joining",
    ]  # fmt: skip
    assert found["North"].sentence.startswith(
        "At North, the federated model's Dice was 0.100 (95 % interval"
    )
    assert "personalised" in found["Centre"].sentence
    assert "too few" in found["West"].sentence


def test_an_error_is_better_where_it_is_lower() -> None:
    """A federated MAE that is lower by 2 years is worth joining for."""
    own = 6 + np.resize([0.5, -0.5], 20)
    (found,) = worth_joining(
        [HospitalScores("North", own, own - 2 + np.resize([0.1, -0.1, 0.2], 20))],
        metric="MAE",
        is_higher_better=False,
    )
    assert found.worth == "worth joining"
    assert found.gain.value > 0


def test_joining_can_be_judged_by_areas() -> None:
    """Scores that rank are compared by DeLong on the hospital's own patients."""
    truth = np.arange(60) % 2 == 0
    own, other = RNG.standard_normal(60), truth + 0.4 * RNG.standard_normal(60)
    (found,) = worth_joining([HospitalScores("North", own, other, is_positive=truth)], metric="AUC")
    assert found.worth == "worth joining"


def test_contributions_add_up_and_ask_for_each_group_once() -> None:
    """Shapley values sum to what all have above nobody; a hospital without data gives nothing."""
    sizes = {"a": 10, "b": 20, "c": 0, "d": 40}
    asked = []

    def value(group: frozenset[str]) -> float:
        asked.append(group)
        return math.sqrt(sum(sizes[one] for one in group))

    found = contributions(list(sizes), value, is_shapley=True)
    assert len(asked) == len(set(asked)) == 16
    assert sum(one.shapley for one in found.values()) == pytest.approx(math.sqrt(70))
    assert found["c"].shapley == found["c"].left_out == 0
    assert found["d"].left_out == pytest.approx(math.sqrt(70) - math.sqrt(30))
    asked.clear()
    contributions(list(sizes), value)
    assert len(asked) == 5
    with pytest.raises(UsageError, match="Shapley"):
        contributions([str(i) for i in range(11)], value, is_shapley=True)

"""Scores obey their laws, and agree with libraries where these define them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from fedmri.errors import UsageError
from fedmri.evaluate.resampling import drawn_weights
from fedmri.evaluate.scores import masks
from fedmri.evaluate.scores.classes import table_of, vote
from fedmri.evaluate.scores.federated_auc import (
    counted,
    equal_edges,
    federated_auc,
    logit_edges,
    merged,
)
from fedmri.evaluate.scores.ranking import auc, clustered_auc, delong, pr_auc, weighted_auc
from fedmri.evaluate.scores.sites import prevalence_area, site_areas
from fedmri.evaluate.scores.values import concordance, fit_age_bias, values_of

RNG = np.random.default_rng(0)
SPACING = (1.0, 1.0, 3.0)


def test_scores_of_a_table_are_those_of_scikit_learn() -> None:
    """Precision, recall and F1, of random calls."""
    truth, called = RNG.random(50) < 0.4, RNG.random(50) < 0.5
    found = table_of(truth, called)
    assert found.precision.value == pytest.approx(precision_score(truth, called))
    assert found.sensitivity.value == pytest.approx(recall_score(truth, called))
    assert found.f1.value == pytest.approx(f1_score(truth, called))
    assert all(one.low <= one.value <= one.high for one in found.scores().values())


def test_weighted_areas_are_those_of_repeated_patients() -> None:
    """A patient of weight 2 counts as two patients; ties count one half."""
    score, truth = RNG.integers(0, 6, 30).astype(float), RNG.random(30) < 0.5
    weights = drawn_weights(np.arange(30), np.zeros(30), 20, np.random.default_rng(1))
    found = weighted_auc(score, truth, weights)
    for row, area in zip(weights.astype(int), found, strict=True):
        assert area == pytest.approx(roc_auc_score(truth.repeat(row), score.repeat(row)))


def test_slices_of_one_patient_do_not_narrow_the_interval() -> None:
    """Thirty copies of each patient say no more than one: the width stays, within rounding of n."""
    score, truth = RNG.random(40), np.arange(40) % 2 == 0
    once = clustered_auc(score, truth, np.arange(40))
    often = clustered_auc(score.repeat(30), truth.repeat(30), np.arange(40).repeat(30))
    naive = auc(score.repeat(30), truth.repeat(30))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert (naive.high - naive.low) < 0.25 * (often.high - often.low)


def test_a_site_that_differs_in_prevalence_makes_an_area_of_noise() -> None:
    """Prevalence .8 and .2, a score that knows the site: .80 over all, one half within."""
    sites = np.repeat(["a", "b"], 100)
    truth = np.tile(np.arange(100) % 10, 2) < np.where(sites == "a", 8, 2)
    score = (sites == "a") + 0.001 * RNG.random(200)
    found = site_areas(score, truth, sites)
    assert found.prevalence_only == pytest.approx(0.80)  # 80*80 wins, 2*80*20 ties, of 100*100
    assert found.pooled.low > 0.7
    assert found.within.low < 0.5 < found.within.high


def test_a_prevalence_of_training_patients_can_be_given() -> None:
    """A site that is wrongly thought to be rich in patients loses every pair."""
    truth, sites = np.array([True, True, False, False]), ["a", "a", "b", "b"]
    assert prevalence_area(truth, sites, {"a": 0.1, "b": 0.9}) == 0.0


def test_binned_scores_keep_the_area_within_their_bound() -> None:
    """For any bins and any sites; with a bin for each score there is no error."""
    for n_bins in (2, 5, 20, 200):
        score, truth = RNG.random(90), RNG.random(90) < 0.3
        edges = equal_edges(n_bins)
        parts = np.array_split(np.arange(90), 4)
        found = federated_auc([counted(score[own], truth[own], edges) for own in parts])
        exact = roc_auc_score(truth, score)
        assert abs(found.value - exact) <= found.error_bound + 1e-12
        assert found.low <= exact <= found.high
    fine = federated_auc([counted(score, truth, np.sort(score))])
    assert fine.value == pytest.approx(exact)
    assert fine.error_bound == 0


def test_the_error_bound_can_be_reached() -> None:
    """One bin holds all: one half, while the scores may have 1."""
    found = federated_auc([counted(np.array([0.1, 0.9]), np.array([False, True]), np.zeros(0))])
    assert (found.value, found.error_bound) == (0.5, 0.5)


@pytest.mark.parametrize("n_least", [1, 3, 5, 8])
def test_no_count_of_few_patients_leaves_and_the_area_stays_within_its_bound(n_least: int) -> None:
    """At four sites of 8 positive and 24 negative patients, whose scores overlap."""
    score, truth = RNG.random(128), np.arange(128) % 4 == 0
    score, edges = 0.6 * score + 0.3 * truth, equal_edges(20)
    counts = [counted(score[own], truth[own], edges) for own in np.split(np.arange(128), 4)]
    sites = [merged(one, n_least) for one in counts]
    for one, ranges in zip(counts, sites, strict=True):
        for low, high, plain in (
            (ranges.positive_low, ranges.positive_high, one.positive),
            (ranges.negative_low, ranges.negative_high, one.negative),
        ):
            assert low.sum() == high.sum() == plain.sum()
            assert low[low > 0].min() >= n_least
            assert high[high > 0].min() >= n_least
            # the patients up to a bin are known from both ends
            assert (np.cumsum(low) >= np.cumsum(plain)).all()
            assert (np.cumsum(high) <= np.cumsum(plain)).all()
    found, exact = federated_auc(sites), roc_auc_score(truth, score)
    assert abs(found.value - exact) <= found.error_bound + 1e-12
    assert found.low <= exact <= found.high
    in_bins = federated_auc(counts)
    assert found.error_bound >= in_bins.error_bound
    if n_least == 1:
        assert found.error_bound == pytest.approx(in_bins.error_bound)


def test_a_class_below_the_least_gives_no_count() -> None:
    """Four positive patients where five are the least; the bins of logits hold the extremes."""
    edges = logit_edges(8)
    assert len(edges) == 7
    assert edges[0] == pytest.approx(1 / (1 + np.exp(6.0)))
    counts = counted(np.array([0.0, 1.0, 0.5, 0.5] * 3), np.arange(12) < 4, edges)
    found = merged(counts, 5)
    assert not found.positive_low.any()
    assert found.negative_low.sum() == 8


EMPTY, SOME = np.zeros((8, 8, 8), dtype=bool), np.zeros((8, 8, 8), dtype=bool)
SOME[2:4, 2:4, 2:4] = True


@pytest.mark.parametrize(
    ("predicted", "truth", "overlap", "distance"),
    [(EMPTY, EMPTY, 1.0, 0.0), (EMPTY, SOME, 0.0, 374.0), (SOME, EMPTY, 0.0, 374.0)],
)
def test_empty_masks_have_a_score(
    predicted: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    truth: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    overlap: float,
    distance: float,
) -> None:
    """A missed lesion is a failure and not a gap in a mean; both empty is right."""
    assert masks.dice(predicted, truth) == overlap
    assert masks.nsd(predicted, truth, SPACING, tolerance_mm=1) == overlap
    assert masks.lesions(predicted, truth).f1 == overlap
    assert masks.hd95_mm(predicted, truth, SPACING) == distance
    assert masks.mean_surface_mm(predicted, truth, SPACING) == distance


def test_a_failure_may_cost_the_diagonal() -> None:
    """8 x 8 voxels of 1 mm and 8 of 3 mm: sqrt(64 + 64 + 576)."""
    own = masks.Empty(math.nan)
    found = masks.hd95_mm(EMPTY, SOME, SPACING, empty=own)
    assert found == pytest.approx(math.sqrt(64 + 64 + 576))


def test_distances_without_a_voxel_size_are_refused() -> None:
    """A distance in voxels is none, and a mask of another shape is another image."""
    with pytest.raises(UsageError, match="voxel size"):
        masks.hd95_mm(SOME, SOME, (1.0, 1.0))
    with pytest.raises(UsageError, match="shapes of masks"):
        masks.dice(SOME, SOME[1:])


def test_surfaces_agree_with_monai() -> None:
    """The three definitions differ; the first is MONAI's, and own distances give the same."""
    other = np.roll(SOME, 1, axis=2) | np.roll(SOME, 2, axis=0)
    there, back = masks.surface_distances_mm(other, SOME, SPACING)
    wanted = max(np.percentile(there, 95), np.percentile(back, 95))
    assert masks.hd95_mm(other, SOME, SPACING) == pytest.approx(wanted, abs=1e-5)


def test_lesions_are_found_missed_and_invented() -> None:
    """Two true lesions, one found; one more predicted beside: F1 = 2 / (2 + 1 + 1)."""
    truth, predicted = SOME.copy(), SOME.copy()
    truth[6:8, 6:8, 6:8] = True
    predicted[0, 0, 7] = True
    found = masks.lesions(predicted, truth)
    assert (found.n_found, found.n_missed, found.n_invented) == (1, 1, 1)
    assert found.f1 == 0.5
    assert masks.volume_error_ml(predicted, truth, SPACING) == pytest.approx(-7 * 3 / 1000)


def test_explained_variance_is_below_the_squared_correlation() -> None:
    """For any prediction, with its place and scale."""
    for shift, scale in ((0, 1), (5, 1), (0, 3)):
        truth = RNG.normal(50, 10, 40)
        found = values_of(truth, shift + scale * (truth + RNG.normal(0, 5, 40)))
        assert found.r2.value <= found.r.value**2 + 1e-12
        assert found.concordance.value <= found.r.value + 1e-12


def test_concordance_wants_the_same_place() -> None:
    """A constant shift leaves r at 1; concordance is 2 v / (2 v + d**2)."""
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert concordance(truth, truth + 2) == pytest.approx(2 * 1.25 / (2 * 1.25 + 4))


def test_age_bias_is_taken_out_by_training_patients() -> None:
    """Predictions at half the distance from 50: gap -0.5 (age - 50), and none after correction."""
    age = np.array([20.0, 40.0, 60.0, 80.0])
    predicted = 50 + 0.5 * (age - 50)
    bias = fit_age_bias(age, predicted)
    assert (bias.slope, bias.intercept) == pytest.approx((-0.5, 25.0))
    new = np.array([30.0, 70.0])
    told = 50 + 0.5 * (new - 50) + 4
    assert bias.gap(new, told) == pytest.approx([4.0, 4.0])
    assert bias.corrected(told) == pytest.approx(new + 8)  # the stretch stretches a true gap too


def test_a_tie_of_slices_takes_the_mean() -> None:
    """Two slices above and two below: the mean decides."""
    score = np.array([0.9, 0.8, 0.4, 0.4, 0.6, 0.6, 0.0, 0.0])
    assert vote(score, np.repeat([0, 1], 4)).tolist() == [1.0, 0.0]


def test_pr_auc_of_chance_is_the_prevalence() -> None:
    """A score without ties and without use, of many patients."""
    truth = np.arange(4000) % 10 == 0
    found = pr_auc(RNG.random(4000), truth)
    assert found.low < 0.1 < found.high


@pytest.mark.parametrize("truth", [np.zeros(4, bool), np.ones(4, bool)])
def test_an_area_needs_both_classes(truth: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
    """One class has no pair."""
    for compute in (delong, auc, pr_auc):
        with pytest.raises(UsageError, match=r"\[U80\]"):
            compute(np.arange(4.0), truth)


def test_lengths_must_agree() -> None:
    """Patients of two lists that differ are not the same patients."""
    with pytest.raises(UsageError, match="score: 3, is_positive: 2"):
        pr_auc(np.zeros(3), np.zeros(2, bool))

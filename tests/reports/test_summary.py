"""A summary claims what patients show: laws with numbers worked out beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fedmri.arm import ALL, OWN
from fedmri.errors import ConfigError, UsageError
from fedmri.reports.pages.page import write_report
from fedmri.reports.results import load_results
from fedmri.reports.statistics.verdicts import judge
from fedmri.reports.summary import Row, Summary, summarise
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.task import Task

WriteRun = Callable[..., Path]


def dice(value: float) -> dict[str, Any]:
    """Return the fields of a segmented case."""
    return {"scores": {"dice": value}}


def row_of(summary: Summary, label: str) -> Row:
    """Return a row that must be there."""
    row = summary.row(label)
    assert row is not None
    return row


def test_the_interval_counts_patients_and_not_slices(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Forty patients, half with Dice 0 and half with 1: half width 1.96 * 0.5 / sqrt(40) = 0.155.

    Over their 1,200 slices it would be 0.028: the design effect of 30 alike slices is 30.
    """
    run = write_run({"A": 40}, lambda arm, seed, site, i: {**dice(i % 2), "n_examples": 30})
    overall = summarise(load_results(run), segmentation).rows[0].overall["dice"]
    assert overall.value == 0.5
    assert overall.n_subjects == 40
    assert (overall.high - overall.low) / 2 == pytest.approx(1.96 * 0.5 / math.sqrt(40), rel=0.1)


def test_differences_between_sites_do_not_widen_the_interval(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Sites around Dice 0.2 (6 patients) and 0.8 (18): 0.65, give or take the 0.01 within sites.

    Pooled, the spread would be sqrt(0.25 * 0.75) * 0.6 = 0.26, and the interval over 0.2 wide.
    """

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return dice({"A": 0.2, "B": 0.8}[site] + 0.01 * (-1) ** i)

    run = write_run({"A": 6, "B": 18}, predict)
    overall = summarise(load_results(run), segmentation).rows[0].overall["dice"]
    assert overall.value == pytest.approx(0.65)
    assert overall.high - overall.value < 0.01
    assert overall.value - overall.low < 0.05  # a failure that was not seen may lie below


def test_seeds_are_averaged_over_the_same_patients(write_run: WriteRun, segmentation: Task) -> None:
    """A patient with 0.4 under one seed and 0.8 under the other has 0.6, and so has everyone.

    Nothing varies then, and there is no interval: one of no width would claim to be sure.
    """

    def swing(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return dice(0.4 if (seed + i) % 2 else 0.8)

    run = write_run({"A": 12}, swing, n_seeds=2)
    row = summarise(load_results(run), segmentation).rows[0]
    estimate = row.overall["dice"]
    assert row.n_seeds == 2
    assert estimate.value == pytest.approx(0.6)
    assert not estimate.has_interval


def test_a_metric_that_is_no_mean_is_computed_by_seed_and_averaged(
    write_run: WriteRun, classification: Task
) -> None:
    """One of two patients of class b found under seed 0, both under seed 1: (0.75 + 1) / 2."""

    def call(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        found = 1.0 if i in {0, 2} or (i == 3 and seed == 1) else 0.0
        truth = float(i in {2, 3})
        called = truth if i < 2 else found
        return {
            "truth": truth,
            "prediction": [1 - called, called],
            "scores": {"predicted": called},
        }

    run = write_run({"A": 4}, call, n_seeds=2)
    overall = summarise(load_results(run), classification).rows[0].overall
    assert overall["balanced_accuracy"].value == pytest.approx((0.75 + 1) / 2)


def test_a_paired_difference_leaves_out_what_both_models_share(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Patients differ by 0.6, models by 0.1 or so at each: the difference is 0.1 and sure."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return dice(0.2 + 0.06 * i + (0.1 + 0.001 * (-1) ** (i // 2) if arm == "federated" else 0))

    run = write_run({"A": 11}, predict, arms=["federated", "pooled"])
    summary = summarise(load_results(run), segmentation)
    (difference,) = summary.differences
    found = difference.estimate
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-3)
    assert found.low < found.high
    assert difference.verdict == "better"
    overall = summary.rows[0].overall["dice"]
    assert overall.high - overall.low > 0.1  # unpaired, nothing would be seen


def test_a_smaller_error_is_better(write_run: WriteRun, regression: Task) -> None:
    """Federated is off by 2 years and pooled by 5: the difference is 2 - 5 = -3, and better."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return {"truth": 50.0 + i, "prediction": [50.0 + i + (2 if arm == "federated" else 5)]}

    run = write_run({"A": 8}, predict, arms=["federated", "pooled"])
    (difference,) = summarise(load_results(run), regression).differences
    assert difference.estimate.value == pytest.approx(-3)
    assert difference.verdict == "better"


@pytest.mark.parametrize(
    ("value", "p_adjusted", "n_subjects", "verdict"),
    [
        (0.1, 0.01, 9, "better"),
        (-0.1, 0.01, 9, "worse"),
        (0.1, 0.06, 9, "no difference shown"),
        (0.1, 0.05, 9, "better"),
        (0.1, math.nan, 9, "cannot be said"),
        (0.1, 0.01, 5, "cannot be said"),
    ],
)
def test_a_verdict_needs_a_small_adjusted_p_value_and_six_pairs(
    value: float, p_adjusted: float, n_subjects: int, verdict: str
) -> None:
    """Five pairs of one sign happen by chance in 2 of 32 cases: more than 5 %."""
    assert judge(value, p_adjusted, n_subjects, is_higher_better=True) == verdict
    flipped = {"better": "worse", "worse": "better"}
    reversed_ = judge(value, p_adjusted, n_subjects, is_higher_better=False)
    assert reversed_ == flipped.get(verdict, verdict)


def local_arms(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
    """Return 0.9 for a site's own model at home, 0.3 away, and 0.8 for federated everywhere."""
    kind, _, owner = arm.partition(":")
    return dice(0.8 if kind == "federated" else 0.9 if owner == site else 0.3)


def test_local_models_are_scored_at_home_and_everywhere(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Sites of 6 and 2: at home 0.9; A everywhere (6 * 0.9 + 2 * 0.3) / 8 = 0.75, B 0.45."""
    arms = ["federated", "local:A", "local:B"]
    summary = summarise(
        load_results(write_run({"A": 6, "B": 2}, local_arms, arms=arms)), segmentation
    )
    assert row_of(summary, OWN).overall["dice"].value == pytest.approx(0.9)
    assert row_of(summary, ALL).overall["dice"].value == pytest.approx((0.75 + 0.45) / 2)
    found = {d.reference: (round(d.estimate.value, 6), d.verdict) for d in summary.differences}
    assert found == {OWN: (-0.1, "worse"), ALL: (0.2, "better")}


def test_the_matrix_holds_every_model_at_every_site(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Diagonal 0.9, off-diagonal 0.3, gap 0.6; the external column is in neither mean."""
    sites, arms = {"A": 6, "B": 2, "external:X": 7}, ["federated", "local:A", "local:B"]
    matrix = summarise(load_results(write_run(sites, local_arms, arms=arms)), segmentation).matrix
    assert matrix.rows == ("local:A", "local:B", "federated")
    assert matrix.columns == ("A", "B", "external:X")
    values = [cell.value for row in matrix.cells for cell in row if cell is not None]
    assert values == pytest.approx([0.9, 0.3, 0.3, 0.3, 0.9, 0.3, 0.8, 0.8, 0.8])
    means = (matrix.diagonal, matrix.off_diagonal, matrix.gap)
    assert [mean.value for mean in means if mean is not None] == pytest.approx([0.9, 0.3, 0.6])


def test_a_model_is_tested_at_the_site_that_it_never_saw(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Of the arm that left A out, A's patients count; three left-out sites foretell a fourth."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return dice(0.5 + 0.02 * i if arm == f"loso:{site}" else 0.99)

    sites = {"A": 11, "B": 11, "C": 11}
    run = write_run(sites, predict, arms=["loso:A", "loso:B", "loso:C"])
    summary = summarise(load_results(run), segmentation)
    assert summary.rows[0].label == "federated (site left out)"
    assert summary.rows[0].overall["dice"].value == pytest.approx(0.6)
    assert summary.new_site is not None
    assert summary.new_site.low < 0.6 < summary.new_site.high


@pytest.mark.parametrize(("loss", "verdict"), [(0.3, "fail"), (0.02, "pass")])
def test_what_left_out_sites_lose_is_judged_at_ten_points(
    write_run: WriteRun, segmentation: Task, loss: float, verdict: str
) -> None:
    """Known sites have 0.8; left out they have less. The page says so, and foretells a new one."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        spread = 0.01 * (-1) ** i
        return dice(0.8 + spread if arm == "federated" else 0.8 - loss + 2 * spread)

    sites = {"A": 11, "B": 11, "C": 11}
    run = write_run(sites, predict, arms=["federated", "loso:A", "loso:B", "loso:C"])
    _, summary = write_report(run, segmentation)
    assert summary.left_out is not None
    assert summary.left_out.gap.value == pytest.approx(loss, abs=0.005)
    assert summary.left_out.relative == pytest.approx(100 * loss / 0.8, abs=0.7)
    assert summary.left_out.verdict.startswith(verdict)
    found = summary.new_site
    assert found is not None
    assert found.low < found.mean_low < found.mean < found.mean_high < found.high
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Each site left out of training in turn" in page
    assert "uses a prior on the spread between sites" in page


def test_external_sites_stay_out_of_the_score_over_all(
    write_run: WriteRun, segmentation: Task
) -> None:
    """0.9 at the site that took part, 0.1 at the one that did not: 0.9, and 0.8 are lost."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return dice((0.9 if site == "A" else 0.1) + 0.01 * (-1) ** i)

    run = write_run({"A": 6, "external:X": 12}, predict)
    summary = summarise(load_results(run), segmentation)
    assert summary.rows[0].overall["dice"].value == pytest.approx(0.9)
    assert summary.generalisation is not None
    assert summary.generalisation.gap.value == pytest.approx(0.8)
    assert summary.generalisation.verdict.startswith("fail")


@pytest.mark.parametrize(
    ("n_external", "spread", "verdict"),
    [(40, 0.01, "pass"), (40, 0.9, "inconclusive"), (8, 0.01, "inconclusive: fewer than 10")],
)
def test_generalisation_is_judged_by_the_interval_of_the_loss(
    write_run: WriteRun, segmentation: Task, n_external: int, spread: float, verdict: str
) -> None:
    """5 points are lost: sure with little spread, open with much, and with eight patients."""

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        return dice(0.50 if site == "A" else 0.45 + spread * (i % 2 - 0.5))

    summary = summarise(
        load_results(write_run({"A": 20, "external:X": n_external}, predict)), segmentation
    )
    assert summary.generalisation is not None
    assert summary.generalisation.gap.value == pytest.approx(0.05)
    assert summary.generalisation.verdict.startswith(verdict)


def test_an_area_over_all_sites_stands_beside_the_one_within_sites(
    write_run: WriteRun, classification: Task
) -> None:
    """A model that knows the site and nothing else: areas of one half within sites, more over all.

    Site A has 8 of 10 positive and gets 0.7, site B 2 of 10 and 0.3. Over all, positives win
    8 * 8 pairs, tie 8 * 2 + 2 * 8, and lose 2 * 2: (64 + 16) / 100 = 0.8.
    """

    def predict(arm: str, seed: int, site: str, i: int) -> dict[str, Any]:
        p = 0.7 if site == "A" else 0.3
        truth = float(i < (8 if site == "A" else 2))
        return {"truth": truth, "prediction": [1 - p, p], "scores": {"predicted": float(p > 0.5)}}

    class ByArea(Classification):
        primary: ClassVar[str] = "auc"

    by_area = ByArea("group", ("a", "b"))
    row = summarise(load_results(write_run({"A": 10, "B": 10}, predict)), by_area).rows[0]
    assert row.overall["auc"].value == pytest.approx(0.8)
    assert row.within_sites is not None
    assert row.within_sites.value == pytest.approx(0.5)


def test_equal_sites_are_as_unequal_as_chance_makes_them(
    write_run: WriteRun, segmentation: Task
) -> None:
    """With the same patients everywhere the worst site is no worse than dealt ones, mostly."""
    run = write_run({"A": 10, "B": 10, "C": 10}, lambda arm, seed, site, i: dice(0.05 * i))
    fairness = summarise(load_results(run), segmentation).fairness
    assert fairness is not None
    assert fairness.worst == pytest.approx(0.05 * 4.5)
    assert fairness.spread == pytest.approx(0)
    assert fairness.expected_worst < fairness.worst
    assert fairness.chance > 0.95


def test_a_bad_site_is_worse_than_chance(write_run: WriteRun, segmentation: Task) -> None:
    """0.2 at one site and 0.8 at the others is no matter of who was dealt where."""
    run = write_run(
        {"A": 10, "B": 10, "C": 10}, lambda arm, seed, site, i: dice(0.2 if site == "B" else 0.8)
    )
    fairness = summarise(load_results(run), segmentation).fairness
    assert fairness is not None
    assert fairness.worst_site == "B"
    assert fairness.chance < 0.01


def test_models_that_were_tested_on_other_patients_are_compared_on_the_common_ones(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Federated has 0.9 where pooled has nothing: the difference is over the 8 of both, 0."""
    run = write_run({"A": 8, "B": 8}, lambda arm, seed, site, i: dice(0.9 if site == "B" else 0.5),
                    arms=["federated", "pooled"])  # fmt: skip
    (run / "cases/pooled/seed-0/B.jsonl").unlink()
    summary = summarise(load_results(run), segmentation)
    (difference,) = summary.differences
    assert difference.estimate.n_subjects == 8
    assert difference.estimate.value == 0
    assert any("8 of 16 patients" in note for note in summary.notes)


def test_seeds_without_a_common_patient_are_refused(
    write_run: WriteRun, segmentation: Task
) -> None:
    """A mean over seeds needs patients that all of them were tested on."""
    run = write_run({"A": 4, "B": 4}, lambda arm, seed, site, i: dice(0.5), n_seeds=2)
    (run / "cases/federated/seed-0/A.jsonl").unlink()
    (run / "cases/federated/seed-1/B.jsonl").unlink()
    with pytest.raises(UsageError, match=r"none that all its runs share.*\[U14\]"):
        summarise(load_results(run), segmentation)


def test_an_interval_needs_a_hundred_resamples(write_run: WriteRun, segmentation: Task) -> None:
    """The ends of a 95 % interval of ten resamples are two of them."""
    results = load_results(write_run({"A": 4}, lambda arm, seed, site, i: dice(0.5)))
    with pytest.raises(ConfigError, match="n_bootstrap"):
        summarise(results, segmentation, n_bootstrap=10)


def test_the_same_run_gives_the_same_numbers(full_run: Path, segmentation: Task) -> None:
    """Intervals draw nothing, and deals of patients are seeded: nobody can draw again."""
    results = load_results(full_run)
    first, again = (summarise(results, segmentation, n_bootstrap=200) for _ in range(2))
    other = summarise(results, segmentation, n_bootstrap=200, seed=1)
    assert first.rows == again.rows
    assert first.differences == again.differences
    assert first.rows == other.rows
    assert first.fairness != other.fairness


def test_small_sites_and_single_seeds_are_pointed_out(
    write_run: WriteRun, segmentation: Task
) -> None:
    """Four test patients and one training bound what can be claimed."""
    run = write_run({"A": 4, "B": 12}, lambda arm, seed, site, i: dice(0.1 * (i % 5)))
    notes = " ".join(summarise(load_results(run), segmentation).notes)
    assert "one seed: all models" in notes
    assert "too narrow: A 4." in notes


def test_one_patient_has_a_score_and_no_interval(write_run: WriteRun, segmentation: Task) -> None:
    """A site with one test patient is a case, not a crash."""
    run = write_run({"A": 1}, lambda arm, seed, site, i: dice(0.5))
    estimate = summarise(load_results(run), segmentation).rows[0].by_site["A"]["dice"]
    assert estimate.value == 0.5
    assert not estimate.has_interval


def test_a_metric_without_a_quick_form_is_left_to_the_task(
    write_run: WriteRun, segmentation: Task
) -> None:
    """A task may score in its own way (here the median); value and interval are of that number.

    Scores 0, 0.61, ... 0.68 have the median 0.64, and the mean 0.573.
    """

    class Median:
        primary, is_higher_better, measures = "dice", True, segmentation.measures
        columns = ()

        def metrics(self, cases: Any) -> dict[str, float]:
            return {"dice": float(np.median([case.scores["dice"] for case in cases]))}

    run = write_run({"A": 9}, lambda arm, seed, site, i: dice(0.0 if i == 0 else 0.6 + 0.01 * i))
    overall = summarise(load_results(run), Median(), n_bootstrap=200).rows[0].overall["dice"]
    assert overall.value == pytest.approx(0.64)
    assert (
        0.64 < overall.high < 0.68
    )  # of the mean, whose spread is that of the 0, it would be more

"""Wrong intervals that others reported, and what a report says instead.

Every right value comes from another source than the code: scipy, or a sum written out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fedmri.evaluate.comparisons.paired import holm
from fedmri.reports.statistics.metrics import metric_of, parts_of
from fedmri.reports.statistics.scores import Outcomes, Score, score_of
from fedmri.reports.statistics.verdicts import judge
from fedmri.reports.statistics.weighted import Panel
from fedmri.reports.text.words import number, span

Array = NDArray[np.float64]


def scored(metric: str, panels: Sequence[Panel], sites: Sequence[str] | None = None) -> Score:
    """Return the score of a model with one panel a training; of one site by default."""
    n = len(panels[0].truth)
    keys = tuple((sites[i] if sites else "A", f"sub-{i:03d}") for i in range(n))
    parts = [parts_of(metric_of(metric), panel) or () for panel in panels]
    defined = [[p.value for p in own if math.isfinite(p.value)] for own in parts]
    values = [float(np.mean(own)) if own else math.nan for own in defined]
    tested = Outcomes(keys, tuple(panels), tuple(range(len(panels))))
    return score_of(metric_of(metric), tested, values, parts)


def masks(dice: Sequence[float], name: str = "dice") -> Panel:
    """Return patients with a score of their own."""
    n = len(dice)
    return Panel(np.full(n, np.nan), np.zeros((n, 0)), {name: np.array(dice, dtype=float)})


def calls(truth: Sequence[int], called: Sequence[int], n_classes: int = 2) -> Panel:
    """Return patients with a true and a called class."""
    labels = np.array(called)
    return Panel(
        np.array(truth, dtype=float), np.eye(n_classes)[labels], {"predicted": labels * 1.0}
    )


def areas(truth: Sequence[int], score: Sequence[float]) -> Panel:
    """Return patients with the probability of the second class."""
    p = np.array(score, dtype=float)
    return Panel(np.array(truth, dtype=float), np.stack([1 - p, p], axis=1), {})


@pytest.mark.parametrize(
    ("hits", "n"), [(10, 10), (0, 10), (50, 50), (11, 12), (38, 38), (73, 75)],
    ids=["all-of-10", "none-of-10", "all-of-50", "11-of-12", "all-of-38", "73-of-75"],
)  # fmt: skip
def test_a_perfect_share_of_few_is_not_sure(hits: int, n: int) -> None:
    """A resample of equal answers has no width, and was shown as certainty.

    Kind: NVIDIA/garak issues 2033 and 2076. Right: scipy's exact interval; 10 of 10 is 0.69 to 1.
    """
    truth = [i % 2 for i in range(n)]
    called = [t if i < hits else 1 - t for i, t in enumerate(truth)]
    found = scored("accuracy", [calls(truth, called)]).estimate
    right = stats.binomtest(hits, n).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((right.low, right.high), abs=1e-9)


@pytest.mark.parametrize("n_sites", [5, 20], ids=["5-sites", "20-sites"])
def test_a_single_patient_a_site_still_varies(n_sites: int) -> None:
    """Resampling one patient of each site gives that patient: 0.112 (0.112 to 0.112).

    Right: the patients of all such sites vary together. The interval holds the one of scipy's t at
    least nearly, on the side away from failures, and is not far wider.
    """
    dice = [0.5 + 0.3 * math.sin(3 * i) for i in range(n_sites)]
    found = scored("dice", [masks(dice)], [f"site-{i}" for i in range(n_sites)]).estimate
    t = stats.t.interval(0.95, n_sites - 1, np.mean(dice), stats.sem(dice))
    assert found.has_interval
    assert found.high == pytest.approx(t[1], abs=0.25 * (t[1] - t[0]))
    assert found.low < t[0] + 0.05


@pytest.mark.parametrize(
    ("metric", "value"), [("dice", 0.9), ("jaccard", 0.5), ("hd95_mm", 12.0)],
    ids=["dice", "jaccard", "hd95"],
)  # fmt: skip
def test_identical_scores_have_no_interval(metric: str, value: float) -> None:
    """Nothing varied, so nothing can be said of how much might.

    Kind: kassambara/rstatix issue 290, scipy/scipy pull request 14351, Bootstrap.jl issue 40.
    """
    found = scored(metric, [masks([value] * 12, metric)]).estimate
    assert found.value == value
    assert span(found) == "no interval"


def test_all_distances_undefined_have_no_interval() -> None:
    """HD95 of empty masks is NaN, and a mean that leaves it out praises missed lesions.

    Kind: Project-MONAI/MONAI issue 9095. Right: no value and no interval where none is defined.
    """
    found = scored("hd95_mm", [masks([math.nan] * 12, "hd95_mm")]).estimate
    assert (number(found.value), span(found)) == ("\N{EN DASH}", "no interval")


@pytest.mark.parametrize("metric", ["auc", "balanced_accuracy", "macro_f1"])
def test_one_class_at_a_site_has_no_interval(metric: str) -> None:
    """A metric over classes cannot be bounded where one of them was not tested.

    Kind: multiROC issue 4 (nothing varies); right: none, and no error.
    """
    found = scored(metric, [calls([0] * 12, [0] * 11 + [1])]).estimate
    assert not found.has_interval


@pytest.mark.parametrize(
    ("n_positive", "n_negative"), [(1, 11), (11, 1), (3, 9)],
    ids=["one-positive", "one-negative", "three-positive"],
)  # fmt: skip
def test_an_area_of_one_positive_has_an_interval_inside_the_range(
    n_positive: int, n_negative: int
) -> None:
    """DeLong's variance needs two of each class; with one it was an error or NaN.

    Kind: jacobgil/confidenceinterval issue 14, xrobin/pROC issue 27. Right: the score interval,
    whose bounds solve |area - bound| = t * sqrt(variance of Hanley and McNeil at the bound).
    """
    truth = [1] * n_positive + [0] * n_negative
    score = [0.5 + 0.04 * i for i in range(n_positive)]
    score += [0.06 * i + 0.05 for i in range(n_negative)]
    found = scored("auc", [areas(truth, score)]).estimate
    wins = sum(
        (a > b) + 0.5 * (a == b)
        for a, b in itertools.product(score[:n_positive], score[n_positive:])
    )
    area = wins / (n_positive * n_negative)
    assert found.value == pytest.approx(area)
    middle, t = (n_positive + n_negative) / 2 - 1, stats.t.ppf(0.975, n_positive + n_negative - 1)
    z = stats.norm.ppf(0.975)
    for bound in (found.low, found.high):
        end = area + (bound - area) * z / t  # at the normal quantile the equation holds exactly
        if 0 < bound < 1:
            shape = 1 + middle * ((1 - end) / (2 - end) + end / (1 + end))
            variance = end * (1 - end) * shape / (n_positive * n_negative)
            assert abs(area - end) == pytest.approx(z * math.sqrt(variance), rel=1e-6)
    assert 0 <= found.low < found.high <= 1


def test_a_perfect_area_is_not_above_one_and_not_sure() -> None:
    """An area of 1 was returned as 1.0000001, with a variance of 0.

    Kind: jacobgil/confidenceinterval issue 15, xrobin/pROC issue 19 (1 to 1).
    """
    found = scored("auc", [areas([0] * 6 + [1] * 6, np.linspace(0, 1, 12).tolist())]).estimate
    assert found.value == found.high == 1
    assert 0.5 < found.low < 0.9


def test_the_variance_of_two_areas_is_that_of_delong() -> None:
    """Kind: evalclass/precrec issue 23. Right: structural components by all pairs."""
    stream = np.random.default_rng(4)
    truth = (stream.random(60) < 0.4).astype(int)
    scores = [np.round(stream.normal(truth, 1.2), 1) for _ in range(2)]
    panels = [areas(truth.tolist(), s.tolist()) for s in scores]
    found = scored("auc", panels[:1]).minus(scored("auc", panels[1:]))
    components = []
    for s in scores:
        pairs = np.sign(s[truth == 1][:, None] - s[truth == 0][None]) / 2 + 0.5
        components.append((pairs.mean(axis=1), pairs.mean(axis=0)))
    over_positive = components[0][0] - components[1][0]
    over_negative = components[0][1] - components[1][1]
    variance = np.var(over_positive, ddof=1) / len(over_positive)
    variance += np.var(over_negative, ddof=1) / len(over_negative)
    assert found.spread.patients == pytest.approx(variance, rel=1e-9)


def test_three_trainings_that_disagree_are_not_sure() -> None:
    """Scores .333, .587 and .333 printed as ".418 (.392 to .440)", better than the baseline.

    Right: three means vary by sd 0.147, so t with 2 degrees of freedom gives 0.418 -+ 0.364.
    """
    wobble = 0.05 * np.sin(np.arange(30))
    panels = [masks((level + wobble).tolist()) for level in (0.333, 0.587, 0.333)]
    found = scored("dice", panels)
    t = stats.t.interval(0.95, 2, found.value, stats.sem([0.333, 0.587, 0.333]))
    assert found.estimate.low < t[0] + 0.06
    assert found.estimate.high > t[1] - 0.06
    baseline = scored("dice", [masks((0.30 + wobble[::-1]).tolist())] * 3)
    assert found.minus(baseline).p_value > 0.05


@pytest.mark.parametrize(
    "p_values",
    [[0.01, 0.04, 0.03, 0.005], [0.2], [0.5, 0.9, 0.04], [0.001] * 17],
    ids=["four", "one", "ties-at-1", "seventeen"],
)
def test_p_values_are_adjusted_by_their_rank(p_values: list[float]) -> None:
    """Kind: raphaelvallat/pingouin issue 294, allenai/reward-bench issue 270.

    Right: the largest, over all smaller p-values, of (number that are not smaller) times p.
    """
    m = len(p_values)
    right = []
    for own in p_values:
        smaller = [p for p in p_values if p <= own]
        steps = [(m - sum(q < p for q in p_values)) * p for p in smaller]
        right.append(min(1.0, max(steps)))
    assert holm(p_values) == pytest.approx(right)


def test_a_verdict_follows_the_adjusted_value() -> None:
    """Kind: conn-castle/agent-layer pull request 187: a winner was named by the raw p-value."""
    adjusted = holm([0.04] + [0.5] * 16)
    assert judge(0.1, adjusted[0], 20, is_higher_better=True) == "no difference shown"


@pytest.mark.parametrize("n_other", [0, 1, 3], ids=["none", "one", "three"])
def test_few_pairs_that_differ_decide_nothing(n_other: int) -> None:
    """Five wins to none of 40 patients is p = 2 / 2**5 by the exact test, not 0.02 by a t test."""
    truth = [0, 1] * 20
    first = list(truth)
    second = [1 - t if i < 5 else t for i, t in enumerate(truth)]
    for i in range(n_other):
        first[39 - i] = 1 - first[39 - i]
    p = scored("accuracy", [calls(truth, first)]).minus(scored("accuracy", [calls(truth, second)]))
    exact = stats.binomtest(5, 5 + n_other, 0.5).pvalue
    assert p.p_value > 0.05
    assert exact > 0.05


def test_an_interval_is_never_shown_as_one_number() -> None:
    """0.1121 to 0.1124 has two ends, also where three digits show one."""
    dice = [0.11225 + 1e-4 * (-1) ** i for i in range(40)]
    found = scored("accuracy", [calls([0, 1] * 20, [0, 1] * 20)]).estimate
    low, _, high = span(found).partition(" to ")
    assert low != high
    narrow = scored("mae", [Panel(np.zeros(40), np.array(dice)[:, None], {})]).estimate
    low, _, high = span(narrow).partition(" to ")
    assert low != high

"""Time to an event: what was cut off counts up to there, and patients are put in order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import somersd

from fedmri.errors import ConfigError, DataError
from fedmri.plan import Plan
from fedmri.privacy.settings import PrivacyConfig
from fedmri.reports.statistics.metrics import metric_of, parts_of, weighted_metric
from fedmri.reports.statistics.weighted import panel
from fedmri.tasks.concordance import concordance
from fedmri.tasks.hazards import expected_time, life_table
from fedmri.tasks.kinds.survival import Survival
from fedmri.tasks.task import Case, Reading
from tests.tasks.conftest import scan_of

CUTS = (10.0, 20.0, 40.0)
TASK = Survival("months", "died", CUTS)


def cases(n: int = 60, seed: int = 0, *, is_cut: bool = True) -> list[Case]:
    """Return patients with a risk, that the curves tell of, and whose times are cut off or not."""
    random = np.random.default_rng(seed)
    risk = random.normal(size=n)
    times = random.exponential(20 * np.exp(-risk))
    ends = random.uniform(5, 60, n) if is_cut else np.full(n, np.inf)
    hazards = 1 / (1 + np.exp(-(risk + random.normal(0, 0.7, n))[:, None] + np.array([1, 1, 0.5])))
    curves = (1 - hazards).cumprod(axis=1)
    seen = np.minimum(times, ends)
    truths = zip(seen.tolist(), (times <= ends).astype(float).tolist(), strict=True)
    return [
        TASK.case("north", f"{i:03d}", [Reading(1, truth, (tuple(curve),))])
        for i, (truth, curve) in enumerate(zip(truths, curves.tolist(), strict=True))
    ]


def arrays(some: list[Case]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, events and expected times."""
    truth = np.array([case.truth for case in some])
    return truth[:, 0], truth[:, 1] == 1, np.array([case.scores["expected"] for case in some])


@pytest.mark.parametrize(
    ("truth", "through", "event"),
    [
        ((5.0, 1.0), [], 0),  # in the first interval
        ((10.0, 1.0), [0], 1),  # its end belongs to the next
        ((25.0, 1.0), [0, 1], 2),
        ((90.0, 1.0), [0, 1, 2], None),  # beyond the last: nothing was seen up to there
        ((4.0, 0.0), [], None),  # less than half of the first was seen: it says nothing
        ((5.0, 0.0), [0], None),
        ((29.0, 0.0), [0, 1], None),
        ((30.0, 0.0), [0, 1, 2], None),
    ],
)
def test_a_patient_adds_what_was_seen_of_each_interval(
    truth: tuple[float, float], through: list[int], event: int | None
) -> None:
    """Minus the logarithm of the probability of just that, by hand; and no other gradient."""
    logits = torch.tensor([[0.2, -0.7, 1.1]], requires_grad=True)
    hazards = 1 / (1 + np.exp(-logits.detach().numpy()[0].astype(float)))
    expected = -sum(math.log(1 - hazards[j]) for j in through)
    expected -= 0 if event is None else math.log(hazards[event])
    found = TASK.mean_loss(logits, TASK.batch_target([truth]))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    found.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
    assert logits.grad is not None
    is_known = {*through} | ({event} if event is not None else set())
    assert {int(j) for j in logits.grad[0].nonzero()} == is_known
    curve = TASK.predict(logits.detach())[0].tolist()
    case = TASK.case("a", "b", [Reading(1, truth, (tuple(curve),))])
    assert case.scores["nll"] == pytest.approx(expected, abs=1e-5)


def test_each_patient_adds_a_part_of_its_own() -> None:
    """So the loss may be private, where a likelihood of ranks may not."""
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    target = TASK.batch_target([(float(t), float(t % 2)) for t in (3, 12, 25, 33, 41, 8)])
    single = [TASK.mean_loss(logits[i : i + 1], target[i : i + 1]) for i in range(6)]
    assert float(TASK.mean_loss(logits, target)) == pytest.approx(float(sum(single)) / 6)
    Plan(TASK, privacy=PrivacyConfig(noise_multiplier=1.0))


@pytest.mark.parametrize("seed", range(3))
def test_concordance_is_the_share_of_pairs_in_order(seed: int) -> None:
    """Every pair looked at one by one, ties of times and of answers among them."""
    random = np.random.default_rng(seed)
    times, expected = random.integers(1, 9, 30).astype(float), random.integers(0, 5, 30) / 4
    events = random.random(30) < 0.6
    right = total = 0.0
    for i in range(30):
        for j in range(30):
            is_later = times[i] < times[j] or (times[i] == times[j] and not events[j] and i != j)
            if events[i] and is_later:
                total += 1
                right += 1.0 if expected[i] < expected[j] else 0.5 * (expected[i] == expected[j])
    assert concordance(times, events, expected) == pytest.approx(right / total)


def test_without_cut_off_times_concordance_is_somers_d() -> None:
    """C is (D + 1) / 2 where all is seen, by SciPy's D."""
    times, events, expected = arrays(cases(is_cut=False))
    found = concordance(times, events, expected)
    assert found == pytest.approx((somersd(times, expected).statistic + 1) / 2)
    assert found > 0.6
    assert math.isnan(concordance(times, np.zeros(len(times), dtype=bool), expected))


def test_each_patient_moves_concordance_by_its_influence() -> None:
    """To first order, as leaving one out shows; the weighted form is that of repeated patients."""
    some, name = cases(150), "concordance"
    metric = metric_of(name, TASK)
    [part] = parts_of(metric, panel(some)) or ()
    whole = TASK.metrics(some)[name]
    assert part.value == pytest.approx(whole)
    assert part.influence.mean() == pytest.approx(0, abs=1e-9)
    without = [TASK.metrics(some[:i] + some[i + 1 :])[name] for i in range(len(some))]
    moved = (whole - np.array(without)) * (len(some) - 1)
    np.testing.assert_allclose(moved, part.influence, atol=0.1)
    counts = np.random.default_rng(1).integers(0, 2, len(some))
    weighted = weighted_metric(metric, panel(some))
    assert weighted is not None
    kept = [case for case, n in zip(some, counts, strict=True) if n]
    found = weighted(panel(some), counts[None].astype(float))[0]
    assert found == pytest.approx(TASK.metrics(kept)[name])


def test_the_life_table_is_kaplan_and_meiers_at_the_cuts() -> None:
    """Where times are cut off at the cuts alone: 8 at risk and 2 events, 5 and 1, 3 and 3."""
    rows = [(5.0, 1.0)] * 2 + [(10.0, 0.0)] + [(15.0, 1.0)] + [(20.0, 0.0)] + [(30.0, 1.0)] * 3
    assert life_table(np.array(rows), CUTS) == pytest.approx([2 / 8, 1 / 5, 3 / 3])
    assert TASK.guess(rows) == pytest.approx((0.75, 0.6, 0.0))
    # straight lines from 1 to 0.75 to 0.6 to 0, over 10, 10 and 20 months
    assert expected_time((0.75, 0.6, 0.0), CUTS) == pytest.approx(8.75 + 6.75 + 6.0)


@pytest.mark.parametrize(
    ("cells", "code", "said"),
    [
        ({"months": "-3", "died": "1"}, "D59", "a time below 0"),
        ({"months": "n/a", "died": "1"}, "D16", "missing"),
        ({"months": "3", "died": ""}, "D16", "died is ''"),
        ({"months": "3", "died": "lost"}, "D16", "not one of 1, yes"),
        ({"months": "3"}, "D16", "no column 'died'"),
    ],
)
def test_a_time_or_an_event_that_cannot_be_true_leaves_the_scan_out(
    cells: dict[str, str], code: str, said: str
) -> None:
    """With one reason, and never as a time that was cut off."""
    [finding] = TASK.findings([scan_of(cells)])
    assert (finding.code, finding.is_excluded) == (code, True)
    assert said in finding.reason
    with pytest.raises(DataError, match=r"\[D16\]"):
        TASK.truth(scan_of(cells))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("3", "0"), ("9", "no")], "no patient has died"),
        ([("70", "1"), ("9", "0")], "before 40 months"),
        ([("3", "1"), ("9", "0")], ""),
    ],
)
def test_a_site_without_an_event_is_told(rows: list[tuple[str, str]], said: str) -> None:
    """It trains all the same."""
    scans = [scan_of({"months": t, "died": e}, f"sub-{i}") for i, (t, e) in enumerate(rows)]
    found = TASK.site_findings("north", scans, [frozenset()] * len(scans))
    assert [f.code for f in found] == (["D77"] if said else [])
    assert all(said in f.reason and not f.is_excluded for f in found)


def test_a_curve_that_is_no_number_is_the_opposite_of_what_was_seen() -> None:
    """An event is called impossible, and a patient without one is called dead at once."""
    for event, height in ((1.0, 1.0), (0.0, 0.0)):
        case = TASK.case("a", "b", [Reading(1, (15.0, event), ((math.nan,) * 3,))])
        [within] = TASK.clipped([case])
        assert within.prediction == (height,) * 3
        assert within.scores["nll"] == pytest.approx(TASK.ranges["nll"][1])


@pytest.mark.parametrize(
    "settings", [{"cuts": ()}, {"cuts": (2.0, 1.0)}, {"cuts": (0.0, 1.0)}, {"event": ""}]
)
def test_intervals_that_are_none_are_refused(settings: dict[str, Any]) -> None:
    """Before any table is read."""
    with pytest.raises(ConfigError, match=r"\[C01\]"):
        Survival(**{"name": "months", "event": "died", "cuts": CUTS, **settings})

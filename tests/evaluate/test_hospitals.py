"""What a new hospital may see: agreement with a library, and laws of the prior and the planner."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedmri.errors import UsageError
from fedmri.evaluate.hospitals.new_hospital import (
    OF_AUC,
    WEAK,
    SpreadPrior,
    new_hospital,
    prior_for,
)
from fedmri.evaluate.hospitals.planner import plan_halving
from fedmri.evaluate.hospitals.random_effects import on_scale, random_effects
from fedmri.evaluate.hospitals.worst import shrunken

AREAS, ERRORS = [0.91, 0.86, 0.88, 0.79, 0.93], [0.02, 0.03, 0.025, 0.05, 0.02]


def test_the_mean_over_hospitals_is_that_of_statsmodels() -> None:
    """Spread (DerSimonian and Laird), mean and the interval of Hartung and Knapp."""
    from statsmodels.stats.meta_analysis import combine_effects

    sites = on_scale(AREAS, ERRORS, "logit")
    assert sites is not None
    found = random_effects(sites)
    wanted = combine_effects(sites.y, sites.variance, method_re="dl", use_t=True)
    assert found.tau2 == pytest.approx(wanted.tau2)
    assert math.log(found.mean / (1 - found.mean)) == pytest.approx(wanted.mean_effect_re)
    low, high = wanted.conf_int()[3]
    ends = [math.log(end / (1 - end)) for end in (found.low, found.high)]
    assert ends == pytest.approx([low, high])


@pytest.mark.parametrize(
    ("values", "errors"),
    [([0.8, 0.9], [0.1, 0.1]), ([0.8, 0.9, 1.0], [0.1] * 3), ([0.8, 0.9, 0.7], [0.1, 0.0, 0.1])],
)
def test_no_new_hospital_is_predicted_from_too_little(
    values: list[float], errors: list[float]
) -> None:
    """Two sites, a site at the border of the scale and a site without spread foretell nothing."""
    assert new_hospital(values, errors) is None


def test_a_certain_prior_gives_the_normal_interval() -> None:
    """Spread t, errors s, k hospitals: 1.96 sqrt(t**2 + (t**2 + s**2) / k), on the log."""
    values, errors = [4.0, 5.0, 6.0, 5.5], [0.5, 0.5, 0.5, 0.5]
    known = SpreadPrior("lognormal", 0.3, 0.01, is_of_metric=False, source="a test")
    found = new_hospital(values, [e * v / 5 for e, v in zip(errors, values, strict=True)],
                         scale="log", prior=known)  # fmt: skip
    assert found is not None
    half = 1.959964 * math.sqrt(0.3**2 + (0.3**2 + 0.1**2) / 4)
    centre = np.log(values).mean()
    assert math.log(found.low) == pytest.approx(centre - half, abs=0.01)
    assert math.log(found.high) == pytest.approx(centre + half, abs=0.01)
    assert found.spread == pytest.approx(0.3, abs=0.01)


def test_hospitals_that_look_alike_do_not_narrow_the_interval_to_nothing() -> None:
    """Three equal areas: the prior keeps a spread of about .055, so .1 to each side at least."""
    found = new_hospital([0.80, 0.80, 0.80], [0.005] * 3, prior=OF_AUC)
    assert found is not None
    assert found.frequentist.tau2 == 0
    assert found.low < 0.71
    assert found.high > 0.87
    assert found.frequentist.new_high - found.frequentist.new_low < found.high - found.low


def test_many_hospitals_overrule_the_prior() -> None:
    """Sixty hospitals that differ by one logit: the interval is theirs, and not the prior's."""
    rng = np.random.default_rng(0)
    values = 1 / (1 + np.exp(-rng.standard_normal(60)))
    found = new_hospital(values.tolist(), [0.01] * 60, prior=OF_AUC)
    assert found is not None
    assert found.spread == pytest.approx(1.0, abs=0.25)
    assert found.low == pytest.approx(found.frequentist.new_low, abs=0.05)


def test_every_metric_has_the_prior_of_its_kind() -> None:
    """Areas have that of many studies; a number of unknown unit has none."""
    assert prior_for("auc", "logit") is OF_AUC
    assert prior_for("dice", "logit") is WEAK
    assert prior_for("mae", "log") is WEAK
    assert prior_for("r2", "identity") is None
    found = new_hospital([1.0, 2.0, 4.0], [0.1] * 3, scale="identity", prior=None)
    assert found is not None
    assert (found.low, found.high) == (found.frequentist.new_low, found.frequentist.new_high)


def test_more_hospitals_cannot_undo_that_hospitals_differ() -> None:
    """Halving is possible where the own errors dominate, and is not where the spread does."""
    differ = new_hospital(AREAS, ERRORS, prior=OF_AUC)
    assert differ is not None
    plan = plan_halving(differ, ERRORS, AREAS)
    assert plan.further_hospitals is None
    assert plan.patients_factor is None
    assert plan.floor < plan.half_width
    assert "Neither more hospitals" in plan.sentences()[0]
    assert plan.further_for_mean > 0


def test_the_plan_keeps_its_word() -> None:
    """Large errors, alike hospitals: with the hospitals or patients it asks for, half the width."""
    values, errors = [0.7, 0.72, 0.71], [0.15, 0.15, 0.15]
    tight = SpreadPrior("half-normal", 0.02, 0.0, is_of_metric=False, source="a test")
    found = new_hospital(values, errors, prior=tight)
    assert found is not None
    plan = plan_halving(found, errors, values)
    assert plan.further_hospitals is not None
    assert plan.patients_factor is not None
    factor = plan.patients_factor
    again = new_hospital(values, [e / math.sqrt(factor) for e in errors], prior=tight)
    assert again is not None
    assert factor > 3.5
    assert plan_halving(again, [e / math.sqrt(factor) for e in errors], values).half_width == (
        pytest.approx(plan.half_width / 2, rel=0.05)
    )


def test_the_worst_of_small_hospitals_is_drawn_to_the_mean() -> None:
    """A low score with a large error says little of its hospital."""
    sites = on_scale([0.60, 0.80, 0.84, 0.78, 0.70], [0.12, 0.02, 0.02, 0.02, 0.02], "logit")
    assert sites is not None
    found = shrunken(sites)
    assert sites.y.argmin() == 0
    assert found.worst == 4


def test_values_and_errors_belong_together() -> None:
    """A hospital without an error is not a hospital less."""
    with pytest.raises(UsageError, match=r"values: 3, errors: 2"):
        on_scale([0.7, 0.8, 0.9], [0.1, 0.1], "logit")

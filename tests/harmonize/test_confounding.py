"""How much of a target lies between sites, and what labelled patients of a new site bring."""

from __future__ import annotations

import numpy as np
import pytest

from fedmri.harmonize.judging.calibration import calibrated
from fedmri.harmonize.judging.confounding import confounded, cramers_v, share_between

SITES = np.repeat(["A", "B"], 50)


def test_the_share_between_sites_is_that_of_the_analysis_of_variance() -> None:
    """Sites apart by 2 with a variance of 1 within: 1 of 2 parts lies between."""
    within = np.tile([-1.0, 1.0], 50)
    values = within + np.where(SITES == "A", -1, 1)
    assert share_between(values, SITES) == pytest.approx(0.5)
    assert share_between(within, SITES) == pytest.approx(0)
    assert share_between(np.ones(100), SITES) == 0


def test_cramers_v_is_1_where_the_site_tells_all_and_0_where_it_tells_nothing() -> None:
    """And of classes at random it is near 0 for many sites too, unlike the plain one."""
    assert cramers_v(SITES, SITES) == pytest.approx(1)
    assert cramers_v(np.tile(["x", "y"], 50), SITES) == 0
    rng = np.random.default_rng(0)
    random = [
        cramers_v(rng.choice(["x", "y"], 200), rng.choice(list("abcdefghij"), 200))
        for _ in range(50)
    ]
    assert np.mean(random) < 0.1


def test_a_target_that_differs_between_sites_is_told_with_its_share() -> None:
    """A number by the share of its variance, classes by Cramér's V; others are not told."""
    age = np.where(SITES == "A", 30.0, 60.0) + np.tile([-5.0, 5.0], 50)
    (told,) = confounded("age", age, SITES)
    assert told.code == "H36"
    assert "90% of the variance of age" in told.text
    (told,) = confounded("dx", np.where(SITES == "A", "AD", "CN"), SITES)
    assert "Cramér's V 1.00" in told.text
    assert confounded("age", np.tile([20.0, 80.0], 50), SITES) == []


def test_labelled_patients_take_a_sites_mean_error_out() -> None:
    """A constant error of 6 is divided by k + 1; small sites cannot be calibrated."""
    sites = np.array(["A"] * 20 + ["B"] * 4)
    errors = np.full(24, 6.0)
    found = calibrated(errors, sites, np.arange(24), 5, seed=0)
    np.testing.assert_allclose(found[:20], 1.0)
    assert np.isnan(found[20:]).all()


def test_rows_of_one_subject_are_drawn_together() -> None:
    """No row is tested by an offset that its own subject gave."""
    subjects = np.repeat(np.arange(6), 2)
    errors = np.repeat([60.0, 0, 0, 0, 0, 0], 2)
    found = calibrated(errors, np.repeat("A", 12), subjects, 1, seed=0)
    np.testing.assert_allclose(found[:2], 60)  # whoever is drawn, the offset is 0 then

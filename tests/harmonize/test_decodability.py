"""The probe that looks for the site, and models at sites that they were not trained on."""

from __future__ import annotations

import numpy as np
import pytest

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.combat_table import harmonize
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.judging.decodability import ProbeSettings, Rows, Samples, decodability
from fedmri.harmonize.judging.held_out import Errors, leave_sites_out
from fedmri.harmonize.tables.table import Cohort

PROBE = ProbeSettings(n_permutations=39, seed=0)


def samples(shift: float, sizes: tuple[int, ...] = (60, 30, 30), seed: int = 0) -> Samples:
    """Return noise of which each site is shifted by so much more than the one before."""
    rng = np.random.default_rng(seed)
    sites = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.normal(size=(len(sites), 6)) + shift * sites[:, None]
    return Samples(values, sites, np.arange(len(sites)), np.zeros((len(sites), 0)))


def ages(seed: int = 0) -> tuple[Cohort, Array]:
    """Return four sites, alike in age, that shift features of age; and the ages."""
    rng = np.random.default_rng(seed)
    sites = np.repeat(["A", "B", "C", "D"], 50)
    age = rng.uniform(20, 80, len(sites))
    shift = np.repeat(rng.normal(0, 5, (4, 8)), 50, axis=0)
    values = age[:, None] / 20 + shift + rng.normal(size=(len(sites), 8))
    names = tuple("abcdefgh")
    return Cohort(sites, names, values, (), np.zeros((len(sites), 0))), age


def test_shifted_sites_are_told_and_equal_ones_are_not() -> None:
    """Noise gives no small p; a shift gives nearly all, also for sites between two others."""
    noise, shifted = decodability(samples(0), PROBE), decodability(samples(3), PROBE)
    assert noise.largest_share == shifted.largest_share == 0.5
    assert noise.accuracy < 0.65
    assert noise.p_value > 0.05
    assert shifted.accuracy > 0.95
    assert shifted.balanced > 0.95
    assert shifted.p_value == 1 / 40
    assert shifted.balanced_p_value == 1 / 40
    assert noise.balanced_p_value > 0.05


def test_the_mean_over_sites_is_that_of_each_sites_own_share() -> None:
    """Of a large and a small site, always naming the large one is right half of the time."""
    found = decodability(samples(0, (60, 10)), PROBE)
    names, named, sizes = zip(*found.by_site, strict=True)
    assert sizes == (60, 10)
    assert len(names) == 2
    assert sum(named) / 70 == pytest.approx(found.accuracy)
    assert found.balanced == pytest.approx(np.mean([named[0] / 60, named[1] / 10]))
    assert found.balanced < 0.65 < found.accuracy


def test_copies_of_a_subject_do_not_betray_its_site() -> None:
    """All rows of a subject are on one side of a fold, or noise would be recognized."""
    some = samples(0, (10, 10))
    rows = np.repeat(np.arange(20), 8)
    many = Samples(some.values[rows], some.sites[rows], some.subjects[rows], some.given[rows])
    assert decodability(many, PROBE).p_value > 0.05


def test_what_explains_the_site_rightly_is_taken_out() -> None:
    """Where sites differ in age alone, given age they cannot be told."""
    some = samples(0)
    age = 40.0 + 20 * some.sites + np.random.default_rng(1).normal(0, 5, len(some.sites))
    values = some.values + 0.3 * age[:, None]
    plain = Samples(values, some.sites, some.subjects, np.zeros((len(age), 0)))
    given = Samples(values, some.sites, some.subjects, age[:, None])
    assert decodability(plain, PROBE).accuracy > 0.9
    assert decodability(given, PROBE).p_value > 0.05


def test_gaps_and_constant_features_do_not_stop_the_probe() -> None:
    """They are filled from training rows; a feature without any value says nothing."""
    some = samples(3)
    some.values[::7, 0] = np.nan
    some.values[:, 1] = np.nan
    some.values[:, 2] = 4.0
    assert decodability(some, PROBE).accuracy > 0.9


def test_sites_smaller_than_the_folds_are_left_out_and_counted() -> None:
    """A site of three cannot be in five folds."""
    found = decodability(samples(0, (30, 30, 3)), PROBE)
    assert found.n_left_out == 3
    with pytest.raises(HarmonizeError, match=r"found 1, want 2 or more with 5 subjects.*H12"):
        decodability(samples(0, (30, 3)), PROBE)


def test_each_subject_is_new_to_the_harmonization_that_it_is_tested_after() -> None:
    """In five fits each subject is missing once, with all its rows."""
    rows = np.repeat(np.arange(40), 2)
    whole = samples(1, (20, 20))
    some = Samples(whole.values[rows], whole.sites[rows], whole.subjects[rows], whole.given[rows])
    seen: list[list[bool]] = []

    def refit(is_train: Rows) -> Array:
        seen.append(is_train.tolist())
        return some.values

    decodability(some, PROBE, refit)
    n_missing = (~np.array(seen)).sum(axis=0)
    assert len(seen) == 5
    assert (n_missing == 1).all()


def test_combat_hides_the_site_of_new_subjects() -> None:
    """Fitted without the subjects that are tested, it leaves no more than chance."""
    some = samples(3)
    names = tuple("abcdef")
    cohort = Cohort(some.sites.astype(str), names, some.values, (), some.given)
    refitted = decodability(some, PROBE, lambda rows: harmonize(cohort, ComBat(6), rows).values)
    assert refitted.accuracy < 0.65


def test_combat_helps_a_model_at_a_left_out_site_that_differs_in_scanner_alone() -> None:
    """Shifts of five standard deviations mislead a model; taken out, it sees the age."""
    cohort, age = ages()
    found = leave_sites_out(cohort, ComBat(8), age, np.isfinite(age))
    sizes = found.sizes()
    assert sizes["after"].mean() < 8 < sizes["before"].mean()
    assert found.is_number
    assert sorted(found.rows.tolist()) == list(range(200))


def test_classes_are_scored_by_wrong_answers() -> None:
    """A target of text is predicted as a class, and the baseline names the most frequent."""
    cohort, age = ages()
    target = np.where(age > 45, "old", "young")
    found = leave_sites_out(cohort, ComBat(8), target, np.ones(200, dtype=bool))
    assert set(found.baseline.tolist()) == {0.0, 1.0}
    assert found.after.mean() < 0.25 < found.before.mean()


def test_targets_of_a_left_out_site_change_nothing_there() -> None:
    """Whatever its answers are, the same is predicted: their differences are those of errors."""
    cohort, age = ages()
    other = age.copy()
    other[cohort.sites == "A"] = 1000.0
    one, two = (leave_sites_out(cohort, ComBat(8), a, np.isfinite(a)) for a in (age, other))
    is_a = one.sites == "A"
    np.testing.assert_allclose(two.after[is_a] + 1000, one.after[is_a] + age[one.rows[is_a]])


def test_a_site_that_is_predicted_too_old_as_a_whole_is_right_within() -> None:
    """Errors without each site's mean show what a model tells of subjects of one scanner."""
    error = np.array([4.0, 6.0, -1.0, -1.0])
    nothing = np.zeros(4)
    sites = np.array(["A", "A", "B", "B"])
    found = Errors(sites, np.arange(4), error, nothing, nothing, is_number=True, failed=())
    assert found.sizes()["before"].tolist() == [4, 6, 1, 1]
    assert found.sizes_within_sites()["before"].tolist() == [1, 1, 0, 0]


def test_a_site_that_cannot_be_left_out_is_named() -> None:
    """Without its reference, ComBat cannot be fitted; the other sites are still tested."""
    cohort, age = ages()
    found = leave_sites_out(cohort, ComBat(8, reference="B"), age, np.isfinite(age))
    ((site, reason),) = found.failed
    assert site == "B"
    assert "H06" in reason
    assert set(found.sites.tolist()) == {"A", "C", "D"}


def test_two_sites_cannot_be_left_out_in_turn() -> None:
    """One would remain, and ComBat takes two."""
    cohort, age = ages()
    rows = np.flatnonzero(np.isin(cohort.sites, ["A", "B"]))
    less = Cohort(cohort.sites[rows], cohort.features, cohort.values[rows], (), np.zeros((100, 0)))
    with pytest.raises(HarmonizeError, match=r"found 2, want 3 or more.*H12"):
        leave_sites_out(less, ComBat(8), age[rows], np.ones(100, dtype=bool))

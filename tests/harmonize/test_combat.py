"""Laws of federated ComBat on made tables; every expected value is pooled least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from fedmri.errors import ConfigError, HarmonizeError
from fedmri.harmonize import cautions
from fedmri.harmonize.combat import site_table
from fedmri.harmonize.combat.combat_site import apply, fit_site
from fedmri.harmonize.combat.model import ComBat, refuse_target
from fedmri.harmonize.combat.site_table import Array, SiteTable
from fedmri.harmonize.sums import Arrays, add, run, version

AGE_SEX = ("age", "sex=M")
SIZES = (12, 30, 17, 25)


def made(sizes: Sequence[int] = SIZES, n_features: int = 5, seed: int = 0) -> list[SiteTable]:
    """Return tables of sites that shift and stretch features of age and sex."""
    rng = np.random.default_rng(seed)
    tables = []
    for number, n in enumerate(sizes):
        covariates = np.column_stack([rng.uniform(20, 80, n), rng.integers(0, 2, n)])
        noise = rng.normal(0, 1 + 0.3 * number, (n, n_features))
        features = 3 + number + covariates @ rng.normal(0, 0.05, (2, n_features)) + noise
        tables.append(SiteTable(f"site{number}", features, covariates))
    return tables


def pooled(tables: Sequence[SiteTable]) -> tuple[Array, Array, Array]:
    """Return beta, alpha and sigma of least squares on all rows with one intercept a site."""
    sites = np.concatenate([np.full(len(t.features), k) for k, t in enumerate(tables)])
    one_hot = (sites[:, None] == np.arange(len(tables))).astype(float)
    design = np.column_stack([one_hot, np.concatenate([t.covariates for t in tables])])
    values = np.concatenate([t.features for t in tables])
    slopes, *_ = np.linalg.lstsq(design, values, rcond=None)
    alpha = one_hot.mean(axis=0) @ slopes[: len(tables)]
    sigma = np.sqrt(((values - design @ slopes) ** 2).mean(axis=0))
    return slopes[len(tables) :], alpha, sigma


def assert_is_pooled(parameters: Arrays, tables: Sequence[SiteTable]) -> None:
    """Compare parameters with least squares on all rows."""
    beta, alpha, sigma = pooled(tables)
    np.testing.assert_allclose(parameters["beta"], beta, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(parameters["alpha"], alpha, rtol=1e-10)
    np.testing.assert_allclose(parameters["sigma"], sigma, rtol=1e-10)


@pytest.mark.parametrize("sizes", [(40,), (10, 40), (12, 30, 17, 25), (10,) * 12])
def test_sums_over_sites_give_pooled_least_squares(sizes: tuple[int, ...]) -> None:
    """However many sites the rows are spread over, the model is that of all rows in one place."""
    tables = made(sizes)
    assert_is_pooled(run(ComBat(5, AGE_SEX), tables), tables)


def test_the_order_of_sites_does_not_matter() -> None:
    """Sites answer as they come; what each is left with is the same."""
    tables, stage = made(), ComBat(5, AGE_SEX)
    forth, back = (run(stage, order) for order in (tables, tables[::-1]))
    for table in tables:
        clean = [apply(p, fit_site(stage, p, table), table) for p in (forth, back)]
        np.testing.assert_allclose(clean[0], clean[1], rtol=1e-10)


def test_units_do_not_matter() -> None:
    """A volume in cubic nanometres and one in litres are harmonized alike, beside a far zero."""
    tables, stage = made(), ComBat(5, AGE_SEX)
    factor = np.array([1e-12, 1e-3, 1, 1e6, 1e15])
    scaled = [replace(t, features=t.features * factor) for t in tables]
    small, large = run(stage, tables), run(stage, scaled)
    for plain, other in zip(tables, scaled, strict=True):
        expected = apply(small, fit_site(stage, small, plain), plain) * factor
        found = apply(large, fit_site(stage, large, other), other)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_travels_is_moderate_whatever_the_units() -> None:
    """A fixed-point sum of 64 bits with 24 behind the point holds all that leaves a site."""
    tables, stage = made(), ComBat(5, AGE_SEX)
    tables = [replace(t, features=1e9 + 1e7 * t.features) for t in tables]
    shared: Arrays = {}
    for step in range(stage.n_steps):
        total = add(stage.site_sums(step, table, shared) for table in tables)
        assert max(np.abs(values).max() for values in total.values()) < 2**20
        rounded = {name: np.round(v * 2**24) / 2**24 for name, v in total.items()}
        shared = stage.combine(step, rounded, shared)
    expected = pooled(tables)
    np.testing.assert_allclose(shared["sigma"], expected[2], rtol=1e-6)


def test_a_missing_value_costs_one_row_of_one_feature() -> None:
    """Each feature is fitted on the rows that have it, as if the others had not been there."""
    tables = made()
    for number, table in enumerate(tables):
        table.features[number :: number + 3, 1] = np.nan
        table.features[:5, 3] = np.nan
    parameters = run(ComBat(5, AGE_SEX, n_min=5), tables)
    for feature in range(5):
        rows = [np.isfinite(t.features[:, feature]) for t in tables]
        alone = [
            SiteTable(t.site, t.features[r, feature : feature + 1], t.covariates[r])
            for t, r in zip(tables, rows, strict=True)
        ]
        one = {k: parameters[k][..., feature : feature + 1] for k in ("beta", "alpha", "sigma")}
        assert_is_pooled(one, alone)
    effect = fit_site(ComBat(5, AGE_SEX), parameters, tables[0])
    clean = apply(parameters, effect, tables[0])
    assert (np.isnan(clean) == np.isnan(tables[0].features)).all()


def test_a_feature_with_few_values_at_a_site_is_shifted_alone() -> None:
    """Two values have no spread worth the name: their mean is brought in line, and it is said."""
    tables = made()
    tables[0].features[2:, 1] = np.nan
    stage = ComBat(5, AGE_SEX)
    parameters = run(stage, tables)
    effect = fit_site(stage, parameters, tables[0])
    assert effect.delta_star[1] == 1
    assert effect.delta_star[0] != 1
    assert [c.code for c in cautions.of_site(effect, "eb")] == ["H10"]


def test_a_row_without_a_covariate_takes_no_part_and_is_not_harmonized() -> None:
    """What is kept of a row of unknown age cannot be known; the other rows go on."""
    tables, stage = made(), ComBat(5, AGE_SEX)
    without = [replace(t, features=t.features[3:], covariates=t.covariates[3:]) for t in tables]
    for table in tables:
        table.covariates[:3, 0] = np.nan
    parameters = run(replace(stage, n_min=9), tables)
    assert_is_pooled(parameters, without)
    assert [c.code for c in cautions.of_fit(parameters, AGE_SEX, "abcde")] == ["H04"]
    effect = fit_site(replace(stage, n_min=9), parameters, tables[0])
    with pytest.raises(HarmonizeError, match="3 rows with a missing one"):
        apply(parameters, effect, tables[0])


def test_a_level_that_one_site_alone_has_is_refused_by_name() -> None:
    """Nobody can tell such a diagnosis from its hospital."""
    tables = made()
    for number, table in enumerate(tables):
        table.covariates[:, 1] = number == 0
    with pytest.raises(HarmonizeError, match=r"variation of sex=M within sites: found none, .*H03"):
        run(ComBat(5, AGE_SEX), tables)


def test_a_level_that_a_site_has_not_is_no_matter() -> None:
    """Its column is zero there, and the other sites tell its effect."""
    tables = made()
    tables[0].covariates[:, 1] = 0
    assert_is_pooled(run(ComBat(5, AGE_SEX), tables), tables)


def test_a_covariate_that_repeats_others_is_refused_by_name() -> None:
    """Age in years beside age in months leaves the effect of either open."""
    tables = [
        replace(t, covariates=np.column_stack([t.covariates, 12 * t.covariates[:, 0]]))
        for t in made()
    ]
    with pytest.raises(HarmonizeError, match="variation of age, months within sites: found none t"):
        run(ComBat(5, (*AGE_SEX, "months")), tables)


def test_a_covariate_that_nearly_repeats_another_is_told() -> None:
    """The work goes on, and the reader knows that these effects are uncertain."""
    rng = np.random.default_rng(1)
    tables = [
        replace(
            t,
            covariates=np.column_stack(
                [t.covariates, t.covariates[:, 0] + rng.normal(0, 0.003, len(t.covariates))]
            ),
        )
        for t in made()
    ]
    columns = (*AGE_SEX, "age at scan")
    parameters = run(ComBat(5, columns), tables)
    assert [c.code for c in cautions.of_fit(parameters, columns, "abcde")] == ["H08"]


def test_a_constant_feature_is_left_as_it_was_and_told() -> None:
    """Its residuals are rounding, and dividing by them would blow them up."""
    tables = made()
    for number, table in enumerate(tables):
        table.features[:, 2] = 0.1
        table.features[:, 4] = 0.1 * (1 + number)
    stage = ComBat(5, AGE_SEX)
    parameters = run(stage, tables)
    for table in tables:
        clean = apply(parameters, fit_site(stage, parameters, table), table)
        assert (clean[:, [2, 4]] == table.features[:, [2, 4]]).all()
        assert np.isfinite(clean).all()
    (found,) = cautions.of_fit(parameters, AGE_SEX, "abcde")
    assert found.code == "H09"
    assert "have them: c, e." in found.text


def test_a_feature_that_follows_from_the_covariates_is_left_as_it_was() -> None:
    """Age in another unit has nothing of the scanner in it but rounding."""
    tables = made()
    for number, table in enumerate(tables):
        table.features[:, 2] = 3 * number + table.covariates @ [12, 0.7]
    parameters = run(ComBat(5, AGE_SEX), tables)
    assert parameters["is_fitted"].tolist() == [1, 1, 0, 1, 1]


def test_a_feature_that_is_constant_at_one_site_stays_finite() -> None:
    """A spread of zero is not divided by."""
    tables = [replace(t, covariates=np.zeros((len(t.features), 0))) for t in made()]
    tables[1].features[:, 0] = 7
    for mode in ("eb", "no_eb", "nonparametric", "mean_only"):
        stage = ComBat(5, mode=mode)
        parameters = run(stage, tables)
        clean = apply(parameters, fit_site(stage, parameters, tables[1]), tables[1])
        assert np.isfinite(clean).all()


def test_a_single_feature_is_harmonized_without_empirical_bayes() -> None:
    """It has no other features to learn from: mean and spread are its own, and it is said."""
    tables, stage = made(n_features=1), ComBat(1, AGE_SEX)
    parameters = run(stage, tables)
    effect = fit_site(stage, parameters, tables[0])
    assert effect.gamma_star == effect.gamma_hat
    assert [c.code for c in cautions.of_site(effect, "eb")] == ["H10"]
    clean = apply(parameters, effect, tables[0])
    kept = clean - tables[0].covariates @ parameters["beta"]
    np.testing.assert_allclose(kept.std(ddof=1), parameters["sigma"][0], rtol=1e-10)


def test_a_site_of_few_rows_is_refused() -> None:
    """Its sums would show single patients."""
    with pytest.raises(HarmonizeError, match=r"found 9 rows .*want 10 or more.*H02"):
        run(ComBat(5, AGE_SEX), made((9, 30)))


def test_a_site_of_two_rows_is_shifted_alone_if_it_may_take_part() -> None:
    """Where rules allow such a site, its spread is left alone instead of guessed."""
    tables, stage = made((2, 30, 20)), ComBat(5, AGE_SEX, n_min=1)
    parameters = run(stage, tables)
    effect = fit_site(stage, parameters, tables[0])
    assert (effect.delta_star == 1).all()
    assert np.isfinite(apply(parameters, effect, tables[0])).all()


def test_a_reference_that_does_not_take_part_is_refused() -> None:
    """Ignoring it would harmonize to another scale than the reader believes."""
    with pytest.raises(HarmonizeError, match=r"reference site 'Site0': found 0 sites .*H06"):
        run(ComBat(5, AGE_SEX, reference="Site0"), made())


def test_the_reference_site_is_left_as_it_is() -> None:
    """All others come to its scale, and its own bits stay."""
    tables, stage = made(), ComBat(5, AGE_SEX, reference="site2")
    parameters = run(stage, tables)
    clean = apply(parameters, fit_site(stage, parameters, tables[2]), tables[2])
    assert (clean == tables[2].features).all()


def test_a_refit_equals_a_fit_from_the_start() -> None:
    """The sums of a version are stored: sites that join add theirs, with or without gaps."""
    for is_missing in (False, True):
        tables = made()
        tables[3].features[0, 0] = np.nan if is_missing else 1.0
        first = run(ComBat(5, AGE_SEX), tables[:2])
        old = [replace(t, is_stored=True) for t in tables[:2]]
        second = run(ComBat(5, AGE_SEX, stored=first), [*old, *tables[2:]])
        whole = run(ComBat(5, AGE_SEX), tables)
        for name in ("beta", "alpha", "sigma", "n"):
            np.testing.assert_allclose(second[name], whole[name], rtol=1e-10)
        assert version(second) != version(first)


def test_held_out_rows_are_taken_as_training_rows_were() -> None:
    """The site's own effect is kept, so that a row's result does not depend on its company."""
    table = made()[0]
    stage = ComBat(5, AGE_SEX)
    parameters = run(stage, made())
    effect = fit_site(stage, parameters, table)
    all_rows = apply(parameters, effect, table)
    one = replace(table, features=table.features[4:5], covariates=table.covariates[4:5])
    np.testing.assert_allclose(apply(parameters, effect, one), all_rows[4:5], rtol=1e-14)


def test_blocks_of_features_give_the_same_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two million features are streamed; the results are those of one piece."""
    tables = made(n_features=23)
    tables[1].features[3, 7] = np.nan
    stage = ComBat(23, AGE_SEX)
    whole = run(stage, tables)
    clean = apply(whole, fit_site(stage, whole, tables[1]), tables[1])
    monkeypatch.setattr(site_table, "N_CELLS", 60)
    parts = run(stage, tables)
    again = apply(parts, fit_site(stage, parts, tables[1]), tables[1])
    np.testing.assert_allclose(again, clean, rtol=1e-12)


def test_keeping_the_target_is_refused_with_the_reason() -> None:
    """Features that keep the effect of what shall be predicted hold the answers."""
    with pytest.raises(HarmonizeError, match=r"features that keep the target's effect.*H07"):
        refuse_target(["sex", " Age"], "age")
    refuse_target(["sex"], "age")
    refuse_target(["age"], None)


def test_infinite_values_are_refused() -> None:
    """They would make every number of the fit undefined."""
    tables = made()
    tables[2].features[0, 0] = np.inf
    with pytest.raises(HarmonizeError, match=r"site site2: found infinite values.*H11"):
        run(ComBat(5, AGE_SEX), tables)


def test_a_mode_that_is_not_known_is_refused() -> None:
    """A typing error must not fall back to another method."""
    with pytest.raises(ConfigError, match="one of eb, no_eb, mean_only, nonparametric"):
        ComBat(5, mode="EB")  # type: ignore[arg-type]


def test_sites_with_other_columns_are_refused() -> None:
    """Sums of different features have no meaning."""
    with pytest.raises(HarmonizeError, match=r"sum 'a' of a site: found shape \(2,\).*H01"):
        add([{"a": np.ones(3)}, {"a": np.ones(2)}])
    with pytest.raises(HarmonizeError, match="H01"):
        add([])


def test_a_version_changes_with_any_number_name_or_shape() -> None:
    """What was applied can be told from the version alone."""
    forms: list[Arrays] = [
        {"a": np.zeros(4)},
        {"a": np.zeros((2, 2))},
        {"b": np.zeros(4)},
        {"a": np.array([0.0, 0, 0, 1e-300])},
        {"a": np.zeros(4), "b": np.zeros(0)},
    ]
    versions = sorted(version(form) for form in forms)
    assert all(one != other for one, other in pairwise(versions))
    assert version({"a": np.zeros(1), "b": np.ones(1)}) == version(
        {"b": np.ones(1), "a": np.zeros(1)}
    )

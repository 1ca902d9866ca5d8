"""CovBat and smooth covariates by sums over sites, against pooled implementations made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.combat_site import apply, fit_site
from fedmri.harmonize.combat.combat_table import harmonize, harmonize_later, saved_of
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.saved_combat import read_combat
from fedmri.harmonize.combat.site_table import Array, SiteTable
from fedmri.harmonize.sums import run
from fedmri.harmonize.tables.table import Cohort

P = 12


def made(sizes: tuple[int, ...] = (30, 45, 25), seed: int = 0) -> list[SiteTable]:
    """Return sites whose features go together more or less, and bend with age."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(0, 1, (P, P)))[0]
    tables = []
    for number, n in enumerate(sizes):
        age, sex = rng.uniform(20, 80, n), rng.integers(0, 2, n)
        strength = 4 * 0.75 ** np.arange(P) * (1 + number * (np.arange(P) % 2))
        noise = rng.normal(0, 1, (n, P)) * strength @ directions
        bend = ((age[:, None] - 50) / 15) ** 2 * np.linspace(0, 1, P)
        features = 3 + number + bend + sex[:, None] * 0.5 + noise
        tables.append(SiteTable(f"s{number}", features, np.column_stack([age, sex])))
    return tables


def harmonized(stage: ComBat, tables: list[SiteTable]) -> Array:
    """Return all rows by sums over sites."""
    parameters = run(stage, tables)
    return np.concatenate([apply(parameters, fit_site(stage, parameters, t), t) for t in tables])


def combat_pooled(values: Array, sites: Array, design: Array) -> tuple[Array, Array, Array, Array]:
    """Return residuals of ComBat without empirical Bayes, and what to put back."""
    one_hot = (sites[:, None] == np.unique(sites)).astype(float)
    design = (design - design.mean(axis=0)) / np.maximum(design.std(axis=0), 1e-9)
    whole = np.column_stack([one_hot, design])
    slopes = np.linalg.lstsq(whole, values, rcond=None)[0]
    k = one_hot.shape[1]
    mean = one_hot.mean(axis=0) @ slopes[:k] + design @ slopes[k:]
    sigma = np.sqrt(((values - whole @ slopes) ** 2).mean(axis=0))
    standard = (values - mean) / sigma
    for site in np.unique(sites):
        own = sites == site
        part = standard[own]
        standard[own] = (part - part.mean(axis=0)) / part.std(axis=0, ddof=1)
    return standard, mean, sigma, one_hot


def covbat_pooled(values: Array, sites: Array, design: Array) -> Array:
    """Return CovBat on all rows in one place, after Chen et al. 2022, from the rows."""
    residuals, mean, sigma, _ = combat_pooled(values, sites, design)
    middle, spread = residuals.mean(axis=0), residuals.std(axis=0, ddof=1)
    left, sizes, right = np.linalg.svd((residuals - middle) / spread, full_matrices=False)
    share = np.cumsum(sizes**2) / (sizes**2).sum()
    n_kept = int(np.argmax(share > 0.95)) + 1
    scores = left * sizes
    new, _, score_sigma, _ = combat_pooled(
        scores[:, :n_kept].copy(), sites, np.zeros((len(values), 0))
    )
    weights = [(sites == s).mean() for s in np.unique(sites)]
    means = [scores[sites == s, :n_kept].mean(axis=0) for s in np.unique(sites)]
    scores[:, :n_kept] = new * score_sigma + np.average(means, axis=0, weights=weights)
    return np.asarray(((scores @ right) * spread + middle) * sigma + mean)


def spline(age: Array) -> Array:
    """Return Harrell's restricted cubic spline, knots around the mean of all rows."""
    t = age.mean() + age.std() * np.array([-1.5, -0.75, 0, 0.75, 1.5])

    def cube(knot: float) -> Array:
        return np.asarray(np.clip(age - knot, 0, None) ** 3)

    terms = [
        cube(t[j])
        - cube(t[3]) * (t[4] - t[j]) / (t[4] - t[3])
        + cube(t[4]) * (t[3] - t[j]) / (t[4] - t[3])
        for j in range(3)
    ]
    return np.column_stack([age, *terms])


def pooled(tables: list[SiteTable]) -> tuple[Array, Array, Array]:
    """Return all rows, their sites and covariates."""
    sites = np.concatenate([np.full(len(t.features), k) for k, t in enumerate(tables)])
    return (
        np.concatenate([t.features for t in tables]),
        sites,
        np.concatenate([t.covariates for t in tables]),
    )


@pytest.mark.parametrize("smooth", [(), ("age",)], ids=["straight", "smooth"])
@pytest.mark.parametrize("is_covbat", [False, True], ids=["ComBat", "CovBat"])
def test_sums_over_sites_give_what_all_rows_in_one_place_give(
    smooth: tuple[str, ...], is_covbat: bool
) -> None:
    """Within 1e-10, and whatever the order of the sites."""
    tables = made()
    values, sites, covariates = pooled(tables)
    design = np.column_stack([spline(covariates[:, 0]), covariates[:, 1]]) if smooth else covariates
    if is_covbat:
        wanted = covbat_pooled(values, sites, design)
    else:
        residuals, mean, sigma, _ = combat_pooled(values, sites, design)
        wanted = residuals * sigma + mean
    stage = ComBat(P, ("age", "sex"), "no_eb", smooth=smooth, is_covbat=is_covbat)
    np.testing.assert_allclose(harmonized(stage, tables), wanted, atol=1e-10, rtol=0)
    parameters = run(stage, tables[::-1])
    first = apply(parameters, fit_site(stage, parameters, tables[0]), tables[0])
    np.testing.assert_allclose(first, wanted[:30], atol=1e-10, rtol=0)


def test_sites_vary_together_alike_after_covbat() -> None:
    """What is left between the sites' covariances is less than after ComBat alone."""
    tables = made((200, 200, 200))
    sites = pooled(tables)[1]

    def apart(stage: ComBat) -> float:
        clean = harmonized(stage, tables)
        each = [np.cov(clean[sites == k].T) for k in range(3)]
        return max(float(np.linalg.norm(a - b)) for a in each for b in each)

    plain = ComBat(P, ("age", "sex"), smooth=("age",))
    assert apart(replace(plain, is_covbat=True)) < 0.8 * apart(plain)


def test_a_bent_effect_is_kept_as_it_bends() -> None:
    """Two sites of unlike age: a straight line takes part of the bend for the scanner."""
    rng = np.random.default_rng(0)
    ages = [rng.uniform(20, 60, 300), rng.uniform(40, 80, 300)]
    truth = [((age - 50) / 15) ** 2 for age in ages]
    tables = [
        SiteTable(f"s{k}", t[:, None] + k + rng.normal(0, 0.1, (300, 1)), age[:, None])
        for k, (t, age) in enumerate(zip(truth, ages, strict=True))
    ]
    errors = {}
    for smooth in ((), ("age",)):
        clean = harmonized(ComBat(1, ("age",), "mean_only", smooth=smooth), tables)[:, 0]
        left = clean - np.concatenate(truth)
        errors[smooth] = abs(left[:300].mean() - left[300:].mean())
    assert errors[("age",)] < 0.1 < errors[()]


def test_a_saved_fit_harmonizes_later_rows_alike(tmp_path: Path) -> None:
    """Knots, components and each site's own scores are in the file."""
    tables = made()
    values, sites, covariates = pooled(tables)
    names = np.array([f"s{k}" for k in sites])
    features = tuple(f"f{k}" for k in range(P))
    kept: dict[str, tuple[str, ...]] = {"age": (), "sex": ()}
    cohort = Cohort(names, features, values, ("age", "sex"), covariates, kept)
    stage = ComBat(P, ("age", "sex"), smooth=("age",), is_covbat=True)
    found = harmonize(cohort, stage)
    saved_of(found, cohort, stage).write(tmp_path / "p.npz")
    saved = read_combat(tmp_path / "p.npz")
    assert saved.stage(10) == stage
    later = harmonize_later(cohort, saved, 10)
    np.testing.assert_allclose(later.values, found.values, rtol=1e-12)


def test_a_row_that_misses_a_feature_is_harmonized_by_combat_alone() -> None:
    """It is told; the others have CovBat."""
    tables = made()
    values, sites, covariates = pooled(tables)
    values[4, 2] = np.nan
    names = np.array([f"s{k}" for k in sites])
    cohort = Cohort(names, tuple("abcdefghijkl"), values, ("age", "sex"), covariates)
    plain = ComBat(P, ("age", "sex"))
    found = harmonize(cohort, replace(plain, is_covbat=True))
    alone = harmonize(cohort, plain)
    np.testing.assert_array_equal(found.values[4], alone.values[4])
    assert not np.allclose(found.values[5], alone.values[5])
    assert [c.code for c in found.cautions] == ["H38"]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"smooth": ("sex=M",)}, r"smooth sex=M.*H39"),
        ({"is_covbat": True, "reference": "A"}, r"reference site A.*H39"),
        ({"is_covbat": True, "n_features": 3000}, r"3000 features.*H39"),
    ],
)
def test_what_cannot_be_had_is_refused(settings: dict[str, object], match: str) -> None:
    """Before anything is asked of a site."""
    with pytest.raises(HarmonizeError, match=match):
        replace(ComBat(5, ("age",)), **settings)  # type: ignore[arg-type]

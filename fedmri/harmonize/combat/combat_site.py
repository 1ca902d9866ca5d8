"""Federated ComBat at a site: its own shift and stretch, and taking them out. Nothing leaves here.

Whoever has the shared parameters can do this alone: a site of the fit, a site that joins later with
the parameters frozen, or an external site on its own rows without their labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat import bayes, covbat
from fedmri.harmonize.combat.model import ComBat, with_bends
from fedmri.harmonize.combat.site_table import Array, SiteTable, centred, refuse_infinite
from fedmri.harmonize.sums import Arrays

FEWEST = 3
"""Of fewer values no spread is estimated, only their mean."""


@dataclass(frozen=True)
class SiteEffect:
    """What a site's scanner does to each feature, in units of its sigma; shapes ``(p,)``.

    It is fitted on training rows and kept: held-out rows are harmonized with the same values.

    Attributes:
        site: Name of the site.
        n: Values behind each feature.
        gamma_hat: Shift, as estimated of the feature alone.
        delta_hat: Variance, as estimated of the feature alone.
        gamma_star: Shift that is taken out.
        delta_star: Variance that is taken out.
        prior: What the features have in common; None where empirical Bayes was not used.
        is_reference: The site is left as it is.
        used_mode: The mode in the end: a single feature has no other features to learn from.
        is_flat: Features that hardly vary here and stay as they are, ``(p,)``.
        score_shift: CovBat: shift of each component's score that is taken out, ``(K,)``.
        score_stretch: CovBat: its stretch.
    """

    site: str
    n: Array
    gamma_hat: Array
    delta_hat: Array
    gamma_star: Array
    delta_star: Array
    prior: bayes.Prior | None
    is_reference: bool
    used_mode: str
    is_flat: NDArray[np.bool_]
    score_shift: Array = field(default_factory=lambda: np.zeros(0))
    score_stretch: Array = field(default_factory=lambda: np.zeros(0))


def fit_site(stage: ComBat, parameters: Arrays, table: SiteTable) -> SiteEffect:
    """Estimate a site's own effect from its rows under shared parameters.

    Args:
        stage: Settings of the fit; of ``reference`` the name alone matters here.
        parameters: What the last ``combine`` returned.
        table: Training rows of the site, or all rows of a site that was not in the fit. Rows with a
            missing covariate are passed over.

    Raises:
        HarmonizeError: The site has too few rows (H02); its table does not fit (H11).
    """
    stage.check(table)
    table = with_bends(table, parameters)
    moments, is_flat = _moments(stage, parameters, table)
    effect = SiteEffect(
        table.site,
        n=moments.n,
        gamma_hat=moments.mean,
        delta_hat=moments.variance,
        gamma_star=np.zeros(stage.n_features),
        delta_star=np.ones(stage.n_features),
        prior=None,
        is_reference=stage.reference == table.site,
        used_mode=stage.mode,
        is_flat=is_flat,
    )
    if effect.is_reference:
        return effect
    found = _estimated(effect, moments, stage)
    if "score_spread" not in parameters:
        return found
    is_alone = stage.mode == "mean_only"
    own = residuals(parameters, found, table)
    shift, stretch = covbat.site_scores(parameters, own, is_shift_alone=is_alone)
    return replace(found, score_shift=shift, score_stretch=stretch)


def residuals(parameters: Arrays, effect: SiteEffect, table: SiteTable) -> Array:
    """Return standardized features without the site's shift and stretch, of complete rows.

    Args:
        parameters: What ``combine`` returned.
        effect: The site's own.
        table: Rows of the site.

    Returns:
        Shape ``(n, p)``; NaN where missing.
    """
    table = with_bends(table, parameters)
    whole = slice(0, table.features.shape[1])
    standard, _, _ = _standardized(parameters, table.block(whole), table.complete_covariates, whole)
    return np.asarray((standard - effect.gamma_star) / np.sqrt(effect.delta_star))


def apply(
    parameters: Arrays, effect: SiteEffect, table: SiteTable, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the features as if measured by the scanner that all sites have on average.

    Features that could not be fitted, those that hardly vary at this site, and a reference site
    come back as they were; what is missing stays missing.

    Args:
        parameters: What the last ``combine`` returned.
        effect: The site's own, fitted on training rows.
        table: Any rows of the site, ``(n, p)``.
        out: Where to write, such as a memory map; a new array without it.

    Raises:
        HarmonizeError: A row misses a covariate (H04), or a feature is infinite (H11).
    """
    n_missing = int((~table.is_complete).sum())
    if n_missing:
        fix = "fill them in, leave these rows out, or fit again without that covariate"
        found = f"{n_missing} rows with a missing one"
        what = f"kept covariates of site {table.site}"
        raise HarmonizeError("H04", what, found=found, want="all of them", fix=fix)
    table = with_bends(table, parameters)
    if out is None:
        out = np.empty(table.features.shape)
    for block in table.blocks():
        values = table.block(block)
        if np.isinf(values).any():
            refuse_infinite(table.site)
        out[:, block] = (
            values if effect.is_reference else _without(parameters, effect, table, block)
        )
    if "score_spread" in parameters and len(effect.score_shift):
        own = residuals(parameters, effect, table)
        added = covbat.change(parameters, own, effect.score_shift, effect.score_stretch)
        out += added * parameters["sigma"]
    return out


def _without(parameters: Arrays, effect: SiteEffect, table: SiteTable, block: slice) -> Array:
    values = table.block(block)
    standard, expected, sigma = _standardized(parameters, values, table.covariates, block)
    deviation = np.sqrt(effect.delta_star[block])
    clean = (standard - effect.gamma_star[block]) / deviation * sigma + expected
    is_changed = (effect.gamma_star[block] != 0) | (effect.delta_star[block] != 1)
    return np.where((parameters["is_fitted"][block] > 0) & is_changed, clean, values)


def _standardized(
    parameters: Arrays, values: Array, covariates: Array, block: slice
) -> tuple[Array, Array, Array]:
    """Return standardized values, what is expected of each, and sigma; 1 where not fitted."""
    expected = parameters["alpha"][block] + covariates @ parameters["beta"][:, block]
    sigma = np.where(parameters["is_fitted"][block] > 0, parameters["sigma"][block], 1.0)
    return (values - expected) / sigma, expected, sigma


def _moments(
    stage: ComBat, parameters: Arrays, table: SiteTable
) -> tuple[bayes.StandardizedMoments, NDArray[np.bool_]]:
    """Return the moments of standardized features, and which of them hardly vary here."""
    n_features = table.features.shape[1]
    found = bayes.StandardizedMoments(*(np.zeros(n_features) for _ in range(3)))
    is_flat = np.zeros(n_features, dtype=np.bool_)
    covariates = table.complete_covariates
    for block in table.blocks():
        whole = table.block(block)
        if np.isinf(whole).any():
            refuse_infinite(table.site)
        values = stage.fitted_block(table, block)
        standard, _, _ = _standardized(parameters, values, covariates, block)
        part = centred(standard, np.zeros((len(standard), 0)))
        is_fitted = parameters["is_fitted"][block] > 0
        is_flat[block] = is_fitted & np.isfinite(whole).any(axis=0) & (part.n == 0)
        found.n[block] = part.n * is_fitted
        found.mean[block] = part.mean * is_fitted
        found.squares[block] = (part.deviation**2).sum(axis=0) * is_fitted
    return found, is_flat


def _estimated(effect: SiteEffect, moments: bayes.StandardizedMoments, stage: ComBat) -> SiteEffect:
    """Return the effect by the mode; of one or two values the shift alone, of none nothing."""
    is_known = moments.n >= FEWEST
    mode = stage.mode if is_known.sum() > 1 or stage.mode == "mean_only" else "no_eb"
    shift, variance = effect.gamma_hat.copy(), effect.delta_hat.copy()
    variance[~is_known] = 1.0
    known, common = moments.at(is_known), None
    if mode == "mean_only":
        variance[:] = 1.0
        if (moments.n > 0).sum() > 1:
            present = moments.n > 0
            common = bayes.prior(moments.at(present))
            shift[present] = bayes.shrunken_means(moments.at(present), common)
    elif mode == "eb":
        common = bayes.prior(known)
        shift[is_known], variance[is_known] = bayes.parametric(known, common, stage.tolerance)
        few = (moments.n > 0) & ~is_known
        shift[few] = bayes.shrunken_means(moments.at(few), common)
    elif mode == "nonparametric":
        shift[is_known], variance[is_known] = bayes.nonparametric(known)
    return replace(effect, gamma_star=shift, delta_star=variance, prior=common, used_mode=mode)

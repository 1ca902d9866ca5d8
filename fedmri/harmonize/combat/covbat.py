"""CovBat: after ComBat, what sites differ by in how features vary together is taken out as well.

Principal components of all sites' residuals, from sums of their products; along those that hold
95 % of the variance, each site's scores are brought to one mean and spread.

Source:
    Chen et al. 2022, doi:10.1002/hbm.25688; scores without empirical Bayes, features scaled, as in
    the authors' R package.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.sums import Arrays

SHARE = 0.95
MOST_FEATURES = 2000
"""Products of features with features travel: 2,000 make 32 MB."""
FEWEST = 3
"""Of fewer rows no spread is estimated, only their mean."""


def used(parameters: Arrays) -> NDArray[np.bool_]:
    """Return the features that take part: fitted, and varying at every site, ``(p,)``."""
    is_everywhere = parameters["n_places"] >= parameters["n_sites"]
    return np.asarray((parameters["is_fitted"] > 0) & is_everywhere, dtype=np.bool_)


def rows_used(parameters: Arrays, residuals: Array) -> NDArray[np.bool_]:
    """Return the rows that have all features that take part, ``(n,)``."""
    return np.asarray(np.isfinite(residuals[:, used(parameters)]).all(axis=1), dtype=np.bool_)


def product_sums(parameters: Arrays, residuals: Array) -> Arrays:
    """Return a site's sums of residuals and of their products.

    Args:
        parameters: Of ComBat.
        residuals: Standardized, without the site's shift and stretch, ``(n, p)``.
    """
    own = np.where(used(parameters), residuals, 0)[rows_used(parameters, residuals)]
    n = np.array([float(len(own))])
    return {"n_rows": n, "totals": own.sum(axis=0), "products": own.T @ own}


def components(total: Arrays, parameters: Arrays) -> Arrays:
    """Return the parameters with mean and spread of residuals and their components, ``(p, K)``."""
    n = max(2.0, float(np.rint(total["n_rows"][0])))
    mean = total["totals"] / n
    covariance = (total["products"] - n * np.outer(mean, mean)) / (n - 1)
    variance = np.diagonal(covariance)
    is_used = used(parameters) & (variance > 0)
    spread = np.sqrt(np.where(is_used, variance, 1.0))
    correlation = np.where(np.outer(is_used, is_used), covariance / np.outer(spread, spread), 0)
    sizes, vectors = np.linalg.eigh(correlation)
    sizes, vectors = np.maximum(sizes[::-1], 0), vectors[:, ::-1]
    share = np.cumsum(sizes) / max(sizes.sum(), np.finfo(float).tiny)
    n_kept = min(int((share <= SHARE).sum()) + 1, int(is_used.sum()))
    rotation = vectors[:, :n_kept]
    largest = np.abs(rotation).argmax(axis=0)
    rotation = rotation * np.sign(rotation[largest, np.arange(n_kept)])
    return {**parameters, "residual_mean": mean, "residual_spread": spread, "rotation": rotation}


def scores(parameters: Arrays, residuals: Array) -> Array:
    """Return the scores of rows that have all features, shape ``(n, K)``."""
    own = np.where(used(parameters), residuals, parameters["residual_mean"])
    scaled = (own - parameters["residual_mean"]) / parameters["residual_spread"]
    return np.asarray(scaled @ parameters["rotation"], dtype=np.float64)


def score_sums(parameters: Arrays, residuals: Array) -> Arrays:
    """Return a site's number of rows, sums of scores, and squares about its own mean."""
    own = scores(parameters, residuals[rows_used(parameters, residuals)])
    n, k = own.shape
    mean = own.mean(axis=0) if n else np.zeros(k)
    squares = ((own - mean) ** 2).sum(axis=0)
    return {"n_rows": np.array([float(n)]), "score_sums": own.sum(axis=0), "score_squares": squares}


def score_scales(total: Arrays, parameters: Arrays) -> Arrays:
    """Return the parameters with the scores' mean and spread within sites, shapes ``(K,)``."""
    n = max(1.0, float(np.rint(total["n_rows"][0])))
    variance = np.maximum(0, total["score_squares"]) / n
    spread = np.sqrt(np.where(variance > 0, variance, 1.0))
    return {**parameters, "score_mean": total["score_sums"] / n, "score_spread": spread}


def site_scores(
    parameters: Arrays, residuals: Array, *, is_shift_alone: bool
) -> tuple[Array, Array]:
    """Return a site's own shift and stretch of each score, in units of its spread, ``(K,)``."""
    own = scores(parameters, residuals[rows_used(parameters, residuals)])
    standard = (own - parameters["score_mean"]) / parameters["score_spread"]
    n, k = standard.shape
    shift = standard.mean(axis=0) if n else np.zeros(k)
    if n < FEWEST or is_shift_alone:
        return shift, np.ones(k)
    stretch = standard.std(axis=0, ddof=1)
    return shift, np.where(stretch > 0, stretch, 1.0)


def change(parameters: Arrays, residuals: Array, shift: Array, stretch: Array) -> Array:
    """Return what is added to residuals, ``(n, p)``; 0 in rows that miss a feature."""
    before = scores(parameters, np.nan_to_num(residuals))
    middle, spread = parameters["score_mean"], parameters["score_spread"]
    after = ((before - middle) / spread - shift) / stretch * spread + middle
    added = (after - before) @ parameters["rotation"].T * parameters["residual_spread"]
    is_in = rows_used(parameters, residuals)[:, None] & used(parameters)
    return np.asarray(np.where(is_in, added, 0.0), dtype=np.float64)

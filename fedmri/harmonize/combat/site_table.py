"""What a site holds, taken block by block of its features, so that millions of them fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError

Array = NDArray[np.float64]

N_CELLS = 2**20
"""Features are taken in blocks of so many values (8 MB), whatever their number."""

CONSTANT = 1e-12
"""A spread below this share of the values is rounding."""

FLAT_SHARE = 0.8
"""A feature of which one value makes up this share of a site's rows hardly varies there."""


@dataclass(frozen=True)
class SiteTable:
    """What a site holds: rows of features and of the covariates to be kept.

    Attributes:
        site: Name of the site.
        features: Shape ``(n, p)``; NaN where missing; may be a memory map of any floating type.
        covariates: Shape ``(n, q)``, without intercept; NaN where missing. Rows with a missing one
            take no part in the fit.
        is_stored: The site's sums are among those of the version that is refitted.
    """

    site: str
    features: NDArray[Any]
    covariates: Array
    is_stored: bool = False

    def __post_init__(self) -> None:
        shapes = np.shape(self.features), np.shape(self.covariates)
        if not all(len(s) == 2 for s in shapes) or shapes[0][0] != shapes[1][0]:
            want = "two tables with as many rows, (n, p) and (n, q)"
            fix = "give the same subjects in both, one a row"
            raise HarmonizeError(
                "H11", f"site {self.site}", found=f"shapes {shapes}", want=want, fix=fix
            )
        if np.isinf(self.covariates).any():
            refuse_infinite(self.site)

    @property
    def is_complete(self) -> NDArray[np.bool_]:
        """Whether a row has all covariates, shape ``(n,)``."""
        return np.asarray(np.isfinite(self.covariates).all(axis=1), dtype=np.bool_)

    @property
    def complete_covariates(self) -> Array:
        """Covariates of the rows that have all of them."""
        return self.covariates[self.is_complete]

    def blocks(self) -> Iterator[slice]:
        """Yield the features in order, block by block."""
        n, p = self.features.shape
        width = max(1, N_CELLS // max(1, n))
        for start in range(0, p, width):
            yield slice(start, min(p, start + width))

    def block(self, features: slice) -> Array:
        """Return a block of features of the rows that have all covariates, float64."""
        values = np.asarray(self.features[:, features], dtype=np.float64)
        return values if self.is_complete.all() else values[self.is_complete]

    def varying(self, features: slice) -> Array:
        """Return a block as ``block`` does, NaN where a feature hardly varies at this site."""
        values = self.block(features)
        return np.where(hardly_varies(values), np.nan, values)


@dataclass(frozen=True)
class CentredBlock:
    """A block of features centred over the rows that have them, and these rows' covariates.

    Attributes:
        deviation: Feature minus its mean; 0 where it is missing, shape ``(n, b)``.
        is_observed: Shape ``(n, b)``.
        n: Rows that have a feature, shape ``(b,)``.
        mean: Over these rows, shape ``(b,)``.
        covariate_mean: Over these rows, shape ``(q, b)``.
    """

    deviation: Array
    is_observed: NDArray[np.bool_]
    n: Array
    mean: Array
    covariate_mean: Array

    def scatter(self, covariates: Array) -> Array:
        """Return of each feature the covariates' products centred over its rows, (b, q, q)."""
        q = covariates.shape[1]
        products = (covariates[:, :, None] * covariates[:, None, :]).reshape(len(covariates), q * q)
        observed = self.is_observed.astype(np.float64)
        raw = (observed.T @ products).reshape(observed.shape[1], q, q)
        mean = self.covariate_mean.T
        scatter: Array = raw - self.n[:, None, None] * mean[:, :, None] * mean[:, None, :]
        return scatter

    def offset(self, beta: Array) -> Array:
        """Return ``c'beta`` at the covariates' mean, for beta of shape (q, b)."""
        offset: Array = (self.covariate_mean * beta).sum(axis=0)
        return offset


def centred(values: Array, covariates: Array) -> CentredBlock:
    """Centre a block of features, shape ``(n, b)``, beside covariates centred over all n rows."""
    is_observed = np.isfinite(values)
    n = is_observed.sum(axis=0).astype(np.float64)
    divisor = np.maximum(1, n)
    mean = np.where(is_observed, values, 0).sum(axis=0) / divisor
    deviation = np.where(is_observed, values - mean, 0)
    rest = deviation.sum(axis=0) / divisor  # what rounding left of a mean far from zero
    deviation = np.where(is_observed, deviation - rest, 0)
    covariate_mean = covariates.T @ is_observed.astype(np.float64) / divisor
    covariate_mean[:, n == len(values)] = 0
    return CentredBlock(deviation, is_observed, n, mean + rest, covariate_mean)


def spread(values: Array) -> Array:
    """Return the standard deviation of each column; 0 where it is no more than rounding."""
    block = centred(values, np.zeros((len(values), 0)))
    deviation = np.sqrt((block.deviation**2).sum(axis=0) / np.maximum(1, block.n))
    largest = np.abs(np.where(block.is_observed, values, 0)).max(axis=0, initial=0)
    return np.where(deviation > CONSTANT * largest, deviation, 0.0)


def hardly_varies(values: Array) -> NDArray[np.bool_]:
    """Tell of which columns one value makes up nearly all, shape ``(b,)``; of one row, none.

    A scanner's shift and stretch cannot be told from such rows: all zeros would be moved to the
    mean of the other sites, as if somebody had measured it.

    Args:
        values: Shape ``(n, b)``; NaN where missing.
    """
    observed = np.isfinite(values)
    n = observed.sum(axis=0)
    # a value that most rows have stands twice in a row somewhere, unless gaps part it
    is_suspect = (values[1:] == values[:-1]).any(axis=0) | (n < len(values))
    found = spread(values) == 0
    for k in np.flatnonzero(is_suspect & ~found):
        counts = np.unique(values[observed[:, k], k], return_counts=True)[1]
        found[k] = counts.max(initial=0) >= FLAT_SHARE * n[k]
    return np.asarray(found & (n > 1), dtype=np.bool_)


def refuse_infinite(site: str) -> None:
    """Refuse values that are neither numbers nor missing."""
    fix = "leave them empty, or mend the program that wrote them"
    raise HarmonizeError(
        "H11", f"table of site {site}", found="infinite values", want="finite numbers", fix=fix
    )

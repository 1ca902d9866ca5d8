"""Smooth effects of covariates: restricted cubic splines whose knots come from sums over sites.

Between knots a cubic, beyond the outer ones a straight line, so that few old patients bend nothing.

Source:
    Pomponio et al. 2020, doi:10.1016/j.neuroimage.2019.116450 (ComBat with smooth terms); Harrell
    2015, Regression Modeling Strategies, doi:10.1007/978-3-319-19425-7, section 2.4.5 (the basis).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.sums import Arrays

PLACES = np.array([-1.5, -0.75, 0.0, 0.75, 1.5])
"""Knots in standard deviations around the mean of all sites."""
N_TERMS = len(PLACES) - 1


def design(columns: Sequence[str], smooth: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the regression: of a smooth one also its bent terms."""
    return tuple(
        part
        for name in columns
        for part in (name, *(f"{name}~{k}" for k in range(1, N_TERMS) if name in smooth))
    )


def knot_sums(covariates: Array, exponent: Array) -> Arrays:
    """Return a site's sums and squares of covariates, in their common power of two."""
    scaled = covariates / np.exp2(exponent)
    return {"first": scaled.sum(axis=0), "second": (scaled**2).sum(axis=0)}


def knots_of(total: Arrays, n_rows: float, exponent: Array, is_smooth: Array) -> Array:
    """Return knots, shape ``(q, 5)``; NaN for columns that are not smooth."""
    mean = total["first"] / n_rows
    deviation = np.sqrt(np.maximum(0, total["second"] / n_rows - mean**2))
    knots = (mean[:, None] + deviation[:, None] * PLACES) * np.exp2(exponent)[:, None]
    return np.where(is_smooth[:, None] > 0, knots, np.nan)


def expanded(covariates: Array, knots: Array) -> Array:
    """Return covariates with the bent terms of the smooth ones beside them.

    Args:
        covariates: Shape ``(n, q)``; NaN where missing.
        knots: As of ``knots_of``.
    """
    parts = [np.zeros((len(covariates), 0))]
    for column, places in zip(covariates.T, knots, strict=True):
        parts.append(column[:, None])
        if np.isfinite(places).all():
            parts.append(_bent(column, places))
    return np.column_stack(parts)


def repeated(values: Array, knots: Array) -> Array:
    """Return one value for each column of the regression, from one for each covariate."""
    return np.repeat(values, np.where(np.isfinite(knots).all(axis=1), N_TERMS, 1))


def _bent(column: Array, knots: Array) -> Array:
    last, end = knots[-2], knots[-1]
    width = max(end - last, np.finfo(float).tiny)
    cubes = np.maximum(column[:, None] - knots, 0) ** 3
    inner = knots[:-2]
    terms = (
        cubes[:, :-2]
        - cubes[:, -2:-1] * (end - inner) / width
        + cubes[:, -1:] * (last - inner) / width
    )
    return np.asarray(terms / max(end - knots[0], np.finfo(float).tiny) ** 2, dtype=np.float64)

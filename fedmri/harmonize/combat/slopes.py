"""The effect of covariates from sums of products, for one set of rows or one a feature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.site_table import Array

SINGULAR = 1e-12
"""Covariates depend on each other where, scaled to a unit diagonal, the least eigenvalue of their
products is this share of the largest."""

NO_SCATTER = 1e-12
"""A column whose mean square within sites is below this (in the unit it travels in) is constant."""

LOADING = 0.1
"""A covariate has part in a dependence from this entry of its eigenvector on."""


def unit_diagonal(scatter: Array) -> tuple[Array, Array]:
    """Return K scaled to a unit diagonal, ``(m, q, q)``, and the scale, ``(m, q)``."""
    size = np.sqrt(np.maximum(np.diagonal(scatter, axis1=1, axis2=2), np.finfo(float).tiny))
    return scatter / (size[:, :, None] * size[:, None, :]), size


def condition(scatter: Array, n_rows: float) -> Array:
    """Return the condition of each scaled K, shape ``(m,)``; infinite where it has no inverse.

    Args:
        scatter: K, shape ``(m, q, q)``.
        n_rows: Rows behind it.
    """
    m, q, _ = scatter.shape
    if q == 0:
        return np.ones(m)
    has_scatter = (_diagonal(scatter) > NO_SCATTER * n_rows).all(axis=1)
    found = np.full(m, np.inf)
    values = np.linalg.eigvalsh(unit_diagonal(scatter[has_scatter])[0])
    least, largest = values[:, 0], values[:, -1]
    is_regular = least > SINGULAR * largest
    found[has_scatter] = np.where(is_regular, largest / np.where(is_regular, least, 1), np.inf)
    return found


def solve(scatter: Array, cross: Array, is_solvable: Array) -> Array:
    """Return ``K^-1 M``, shape ``(q, p)``; 0 where K has no inverse.

    Args:
        scatter: K, one for all features or one each, shape ``(1 or p, q, q)``.
        cross: M, shape ``(p, q)``.
        is_solvable: Whether each K has an inverse, boolean.
    """
    safe = np.where(is_solvable[:, None, None], scatter, np.eye(cross.shape[1]))
    unit, size = unit_diagonal(safe)
    right = cross / size
    if len(unit) == 1:
        slopes = np.linalg.solve(unit[0], right.T)
    else:
        slopes = np.linalg.solve(unit, right[:, :, None])[:, :, 0].T
    return np.where(is_solvable, slopes / size.T, 0.0)


def refuse_singular(scatter: Array, n_rows: float, columns: Sequence[str]) -> None:
    """Refuse covariates whose effect cannot be told, naming them.

    Args:
        scatter: K of the feature with the most rows, shape ``(q, q)``.
        n_rows: Rows behind it.
        columns: Names of the q columns.
    """
    constant = np.diagonal(scatter) <= NO_SCATTER * n_rows
    if constant.any():
        involved = constant
    else:
        _, vectors = np.linalg.eigh(unit_diagonal(scatter[None])[0][0])
        involved = np.abs(vectors[:, 0]) > LOADING
    names = ", ".join(name for name, is_in in zip(columns, involved, strict=True) if is_in)
    found = "none that is its own" if not constant.any() else "none"
    raise HarmonizeError(
        "H03",
        f"variation of {names} within sites",
        found=found,
        want="one site at least where it varies by itself",
        fix="leave it out or join levels: its effect cannot be told from that of the sites",
    )


def _diagonal(scatter: Array) -> Array:
    return np.asarray(np.diagonal(scatter, axis1=1, axis2=2), dtype=np.float64)

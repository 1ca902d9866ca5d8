"""What some labelled patients of a new site are worth: a model's mean error there, taken out.

The offset is the sum of the errors of k patients over k + 1, so that few of them move it less. It
is measured at left-out sites, by many draws of k patients each; the others are tested.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmri.harmonize.combat.site_table import Array

N_DRAWS = 200
FEWEST_LEFT = 2


def calibrated(
    errors: Array, sites: NDArray[Any], subjects: NDArray[Any], k: int, seed: int
) -> Array:
    """Return the sizes of errors after calibration with k labelled subjects of each site.

    Args:
        errors: Predicted minus true at left-out sites, ``(n,)``.
        sites: Site of each row, ``(n,)``.
        subjects: Subject of each row, ``(n,)``; all rows of one are drawn or tested together.
        k: Labelled subjects.
        seed: Of the draws.

    Returns:
        Mean over the draws in which a row was tested, ``(n,)``; NaN at sites with fewer than
        ``k + 2`` subjects.
    """
    rng = np.random.default_rng(seed)
    sizes = np.full(len(errors), np.nan)
    for site in np.unique(sites):
        rows = np.flatnonzero(sites == site)
        names, own = np.unique(subjects[rows], return_inverse=True)
        if len(names) >= k + FEWEST_LEFT:
            sizes[rows] = _of_site(errors[rows], own, k, rng)
    return sizes


def _of_site(errors: Array, own: NDArray[np.intp], k: int, rng: np.random.Generator) -> Array:
    n_subjects = int(own.max()) + 1
    counts = np.bincount(own, minlength=n_subjects)
    means = np.bincount(own, errors, n_subjects) / counts
    order = rng.permuted(np.tile(np.arange(n_subjects), (N_DRAWS, 1)), axis=1)
    is_drawn = np.zeros((N_DRAWS, n_subjects), dtype=np.bool_)
    np.put_along_axis(is_drawn, order[:, :k], values=True, axis=1)
    offset = (is_drawn * means).sum(axis=1) / (k + 1)
    tested = ~is_drawn[:, own]
    left = np.abs(errors - offset[:, None])
    n_tested = tested.sum(axis=0)
    found = (left * tested).sum(axis=0) / np.maximum(1, n_tested)
    return np.asarray(np.where(n_tested > 0, found, np.nan), dtype=np.float64)

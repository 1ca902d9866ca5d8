"""What harmonization is worth to a model: its errors at sites that it was not trained on.

Each site is left out in turn. ComBat is fitted on the other sites, and the left-out site's own
shift and spread come from its own rows without their targets (transductive): a model reaches this
only where such rows are at hand before it is used. The target is never a kept covariate.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.combat_table import harmonize
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.tables.table import Cohort

RIDGES = np.logspace(-1, 5, 13)
SIDES = ("before", "after", "looks at nothing")


@dataclass(frozen=True)
class Errors:
    """Errors at left-out sites, one a row: predicted minus true, or 1 for a wrong class.

    Attributes:
        sites: Left-out site of each row, shape ``(n,)``.
        rows: Row of the table, shape ``(n,)``.
        before: On features as they are, shape ``(n,)``.
        after: On harmonized features, shape ``(n,)``.
        baseline: Of always saying the training rows' median or most frequent class, shape ``(n,)``.
        is_number: Whether the target is a number.
        failed: Sites that could not be left out, with the reason.
    """

    sites: NDArray[np.str_]
    rows: NDArray[np.intp]
    before: Array
    after: Array
    baseline: Array
    is_number: bool
    failed: tuple[tuple[str, str], ...]

    def sizes(self) -> dict[str, Array]:
        """Return the sizes of all errors, by what they are of, shapes ``(n,)``."""
        sides = (self.before, self.after, self.baseline)
        return dict(zip(SIDES, map(np.abs, sides), strict=True))

    def sizes_within_sites(self) -> dict[str, Array]:
        """Return the sizes without each site's mean error: what is told of subjects of one site."""
        _, index = np.unique(self.sites, return_inverse=True)
        counts = np.maximum(1, np.bincount(index))
        return {
            name: np.abs(side - (np.bincount(index, side) / counts)[index])
            for name, side in zip(SIDES, (self.before, self.after, self.baseline), strict=True)
        }


def leave_sites_out(
    cohort: Cohort, stage: ComBat, target: NDArray[Any], is_known: NDArray[np.bool_]
) -> Errors:
    """Leave each site out in turn, and predict the target there before and after ComBat.

    Rows without target or covariates are neither trained nor tested on; ComBat, which knows no
    target, is fitted on rows without one too.

    Args:
        cohort: The table; no covariate of it is the target (``refuse_target``).
        stage: Settings of ComBat; a reference site that is left out itself is an error there.
        target: Numbers, or texts as classes, shape ``(n,)``.
        is_known: Whether a row's target is known, shape ``(n,)``.

    Raises:
        HarmonizeError: Fewer than three sites, so that no two would be left to fit on (H12).
    """
    if len(cohort.names) < 3:
        fix = "give a table of three sites or more, or no target"
        what, found = "sites to leave out in turn", str(len(cohort.names))
        raise HarmonizeError("H12", what, found=found, want="3 or more", fix=fix)
    is_number = bool(np.issubdtype(target.dtype, np.number))
    parts: list[tuple[NDArray[np.intp], Array]] = []
    failed = []
    for site in cohort.names:
        is_left = cohort.sites == site
        rows = np.flatnonzero(is_left & is_known & cohort.has_covariates)
        try:
            clean = harmonize(cohort, stage, ~is_left, may_exclude=True).values
        except HarmonizeError as error:
            failed.append((site, str(error)))
            continue
        if len(rows):
            train = np.flatnonzero(~is_left & is_known & cohort.has_covariates)
            parts.append((rows, _errors(cohort.values, clean, target, (train, rows))))
    rows = np.concatenate([np.zeros(0, dtype=np.intp), *(rows for rows, _ in parts)])
    errors = np.concatenate([np.zeros((3, 0)), *(errors for _, errors in parts)], axis=1)
    before, after, baseline = errors
    return Errors(cohort.sites[rows], rows, before, after, baseline, is_number, tuple(failed))


def _errors(
    before: Array,
    after: Array,
    target: NDArray[Any],
    split: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> Array:
    """Return errors before, after and of the baseline on the test rows, ``(3, n)``."""
    train, test = split
    truth = target[test]
    found = [predicted_at(values, target, split) for values in (before, after)]
    if np.issubdtype(target.dtype, np.number):
        found.append(np.full(len(test), np.median(target[train])))
        return np.asarray(np.stack(found) - truth, dtype=np.float64)
    names, counts = np.unique(target[train], return_counts=True)
    found.append(np.full(len(test), names[counts.argmax()]))
    return np.stack([(said != truth).astype(np.float64) for said in found])


def predicted_at(
    values: Array, target: NDArray[Any], split: tuple[NDArray[np.intp], NDArray[np.intp]]
) -> NDArray[Any]:
    """Return what a linear model of training rows says of test rows.

    Args:
        values: Features of all rows, ``(n, p)``; NaN where missing.
        target: Numbers, or texts as classes, ``(n,)``.
        split: Training rows and test rows.
    """
    train, test = split
    is_number = np.issubdtype(target.dtype, np.number)
    if not is_number and len(np.unique(target[train])) < 2:
        return np.full(len(test), target[train][0])
    last = RidgeCV(RIDGES) if is_number else LogisticRegression(C=0.1, max_iter=500)
    steps = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), clone(last))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # both sides alike, 500 steps each
        return np.asarray(steps.fit(values[train], target[train]).predict(values[test]))

"""What harmonization does to a model of a target at left-out sites, as a call measures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.judging.calibration import calibrated
from fedmri.harmonize.judging.confounding import confounded, said
from fedmri.harmonize.judging.held_out import Errors, leave_sites_out
from fedmri.harmonize.tables.levels import numbers
from fedmri.harmonize.tables.numerals import is_missing
from fedmri.harmonize.tables.table_work import Work


@dataclass(frozen=True)
class Calibrated:
    """Sizes of errors with some labelled subjects of the left-out site, shapes ``(n,)``.

    Attributes:
        plain: Before, without any.
        before: On features as they are.
        after: On harmonized features.
        rows: Rows among those of the errors: of sites with enough subjects.
    """

    plain: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    rows: NDArray[np.intp]


@dataclass(frozen=True)
class Predicted:
    """Errors at left-out sites, how much of the target lies between sites, and calibration by k."""

    errors: Errors
    between: str
    calibrations: dict[int, Calibrated]
    cautions: tuple[Caution, ...]


def predicted(work: Work, name: str, calibrate: tuple[int, ...], seed: int) -> Predicted:
    """Leave each site out in turn and predict the target there.

    Args:
        work: The call.
        name: Column of the target.
        calibrate: Numbers of labelled subjects of a left-out site.
        seed: Draws them.
    """
    target, is_known = _target(work, name)
    sites = work.cohort.sites[is_known]
    errors = leave_sites_out(work.cohort, work.stage, target, is_known)
    told = confounded(name, target[is_known], sites)
    each = {k: _calibrated(work, errors, k, seed) for k in calibrate} if errors.is_number else {}
    found = {k: of for k, of in each.items() if len(of.rows)}
    return Predicted(errors, said(name, target[is_known], sites), found, tuple(told))


def _calibrated(work: Work, errors: Errors, k: int, seed: int) -> Calibrated:
    subjects = work.subjects[errors.rows]
    before, after = (
        calibrated(side, errors.sites, subjects, k, seed) for side in (errors.before, errors.after)
    )
    rows = np.flatnonzero(np.isfinite(before))
    return Calibrated(np.abs(errors.before)[rows], before[rows], after[rows], rows)


def _target(work: Work, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return what shall be predicted, and where it is known; text is taken as classes."""
    column = work.source.frame[name]
    values, is_text = numbers(column)
    if not is_text.any():
        return values, np.isfinite(values)
    text = column.str.strip()
    return text.to_numpy(dtype=str), ~is_missing(text).to_numpy(dtype=bool)

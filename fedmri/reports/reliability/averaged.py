"""What a row of the table says of each patient: the mean over its trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.reports import models
from fedmri.reports.models import Model, cases_of
from fedmri.reports.results import SiteCases
from fedmri.reports.statistics.intervals import Patients
from fedmri.reports.statistics.weighted import Array
from fedmri.tasks.task import Case


@dataclass(frozen=True)
class Said:
    """What was said of patients, and what is true.

    Attributes:
        predictions: Mean over trainings, shape ``(n, k)``.
        truth: Class or value, shape ``(n,)``.
        sites: Of each patient, shape ``(n,)``.
        is_of_classes: Whether the predictions are probabilities of classes; else the first is a
            value.
    """

    predictions: Array
    truth: Array
    sites: NDArray[np.str_]
    is_of_classes: bool

    @property
    def classes(self) -> NDArray[np.intp]:
        """The truth as classes."""
        return self.truth.astype(np.intp)

    def at(self, rows: NDArray[np.bool_]) -> Said:
        """Return some patients."""
        parts = self.predictions[rows], self.truth[rows], self.sites[rows]
        return Said(*parts, self.is_of_classes)


def tested(row: Model) -> Said | None:
    """Return what is said of test patients of sites that took part; None of label maps."""
    return _said(row.runs, _inside(row.patients()))


def validated(row: Model) -> Said | None:
    """Return what is said of validation patients; None where it was not kept."""
    if not row.validated:
        return None
    return _said(row.validated, _inside(models.patients_of(row.validated)))


def _inside(patients: Patients) -> Patients:
    return tuple(entry for entry in patients if not models.is_external(entry[0]))


def _said(runs: Sequence[SiteCases], patients: Patients) -> Said | None:
    if not patients:
        return None
    of_runs = [cases_of(run, patients) for run in runs]
    every = [case for run in of_runs for case in run]
    are_classes = all(is_of_classes(case) for case in every)
    if not (are_classes or all("absolute_error" in case.scores for case in every)):
        return None
    predictions = np.mean([[case.prediction for case in run] for run in of_runs], axis=0)
    truth = np.array([float(case.truth) for case in of_runs[0]])  # type: ignore[arg-type]  # one number
    sites = np.array([case.site for case in of_runs[0]])
    return Said(predictions, truth, sites, are_classes)


def is_of_classes(case: Case) -> bool:
    """Whether a patient's prediction is a probability for each class."""
    is_single = isinstance(case.truth, float) and case.truth == case.truth
    n = len(case.prediction)
    return (
        is_single and n > 1 and abs(sum(case.prediction) - 1) < 1e-6 and min(case.prediction) >= 0
    )

"""What the harmonization of a table did: to how well the site can be told, and to a model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.combat.combat_table import Harmonized, harmonize
from fedmri.harmonize.judging.decodability import Decodability, ProbeSettings, Samples, decodability
from fedmri.harmonize.judging.table_target import Predicted, predicted
from fedmri.harmonize.tables.table_work import Work

WHEN = ("before", "after", "after, new subjects")


@dataclass(frozen=True)
class Judged:
    """How well the site can be told, a model at left-out sites if a target was named, cautions.

    The first is measured before, after, and after for subjects whom the harmonization did not know.
    """

    decodability: dict[str, tuple[Decodability, Decodability, Decodability]]
    predicted: Predicted | None
    cautions: tuple[Caution, ...]


def judged(
    work: Work, result: Harmonized, probe: ProbeSettings, calibrate: tuple[int, ...] = ()
) -> Judged:
    """Measure before, after, and after for subjects whom the harmonization did not know.

    Args:
        work: The call.
        result: What came of it.
        probe: Settings of the probe; its seed draws the labelled subjects too.
        calibrate: Numbers of labelled subjects of a left-out site.
    """
    usable = work.cohort.has_covariates
    given = {"Site from features": np.zeros((len(usable), 0))}
    if work.cohort.columns:
        name = f"Site from features given {', '.join(work.cohort.columns)}"
        given[name] = work.cohort.covariates
    measured, told = {}, []
    for name, known in given.items():
        try:
            measured[name] = _sides(work, result, probe, known)
        except HarmonizeError as error:  # the table is harmonized all the same
            told.append(Caution(error.code, f"{name}: not measured. {error}"))
    found = predicted(work, work.target, calibrate, probe.seed) if work.target else None
    cautions = (*result.cautions, *told, *(found.cautions if found else ()))
    return Judged(measured, found, cautions)


def _sides(
    work: Work, result: Harmonized, probe: ProbeSettings, known: NDArray[np.float64]
) -> tuple[Decodability, Decodability, Decodability]:
    cohort, usable = work.cohort, work.cohort.has_covariates
    stage = replace(work.stage, n_min=1)  # a fold has fewer rows, and is not released

    def refit(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        is_train = usable.copy()
        is_train[usable] = rows
        return harmonize(cohort, stage, is_train, may_exclude=True).values[usable]

    before, after = (
        Samples(side, cohort.sites, work.subjects, known).at(usable)
        for side in (cohort.values, result.values)
    )
    sides = decodability(before, probe), decodability(after, probe)
    return (*sides, decodability(before, probe, refit))

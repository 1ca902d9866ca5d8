"""Errors of a target at left-out sites under several harmonizations, with and without calibration.

    python benchmarks/statistics/left_out_sites.py TABLE SITE_COLUMN PATTERN TARGET [FEATURES]

- none: features as they are;
- train-only: training sites harmonized with a spline of the target kept, the left-out one as it is;
- site-wise: ComBat on the training sites, the left-out site by its own rows without the target;
- CovBat: the same with CovBat.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fedmri.harmonize.combat.combat_table import harmonize
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.site_table import Array
from fedmri.harmonize.judging.calibration import calibrated
from fedmri.harmonize.judging.confounding import said
from fedmri.harmonize.judging.held_out import predicted_at
from fedmri.harmonize.tables.levels import numbers
from fedmri.harmonize.tables.table import Cohort, Columns, cohort
from fedmri.harmonize.tables.table_source import read

LABELLED = (3, 5, 10)


def main() -> None:
    """Leave each site out in turn; print the mean absolute errors."""
    path, column, pattern, target, *more = sys.argv[1:]
    source = read(Path(path))
    also = tuple(more[0].split(",")) if more else ()
    found = cohort(source.frame, Columns(column, pattern, others=(target,), also=also))
    truth = numbers(source.frame[target])[0]
    print(said(target, truth, found.sites))
    subjects = np.arange(len(truth))
    for name in ("none", "train-only", "site-wise", "CovBat"):
        errors = left_out(found, truth, name)
        means = [float(np.nanmean(np.abs(errors)))]
        means += [
            float(np.nanmean(calibrated(errors, found.sites, subjects, k, 0))) for k in LABELLED
        ]
        print(name, " ".join(f"{mean:.2f}" for mean in means))


def left_out(found: Cohort, truth: Array, name: str) -> Array:
    """Return predicted minus true of all rows, each by models that know nothing of its site."""
    errors = np.full(len(truth), np.nan)
    for site in found.names:
        is_left = found.sites == site
        clean = values_for(found, truth, is_left, name)
        train, test = np.flatnonzero(~is_left), np.flatnonzero(is_left)
        errors[test] = predicted_at(clean, truth, (train, test)) - truth[test]
    return errors


def values_for(found: Cohort, truth: Array, is_left: np.ndarray, name: str) -> Array:
    """Return the features of all rows, as a model for the left-out site has them."""
    p = len(found.features)
    if name == "none":
        return found.values
    if name == "train-only":
        rows = ~is_left
        kept = Cohort(
            found.sites[rows], found.features, found.values[rows], ("t",), truth[rows, None]
        )
        clean = found.values.copy()
        clean[rows] = harmonize(kept, ComBat(p, ("t",), smooth=("t",), n_min=1)).values
        return clean
    stage = ComBat(p, n_min=1, is_covbat=name == "CovBat")
    return harmonize(found, stage, ~is_left).values


if __name__ == "__main__":
    main()

"""Does the prediction interval for a new hospital hold? Brain age at left-out sites of a table.

    python benchmarks/statistics/new_hospital.py TABLE SITE_COLUMN TARGET [TIMES] [SEED] [ALSO,...]

Each site is left out in turn: a ridge on the other sites' features predicts its ages. The MAE of a
site is then predicted from the MAE of other sites alone: from all others, and from k of them drawn
at random. A site's MAE is itself known from its patients only. The interval for its true MAE is
therefore widened by the site's own standard error before it is counted.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmri.evaluate.estimate import back, onto, quantile_of
from fedmri.evaluate.hospitals.new_hospital import WEAK, NewHospital, new_hospital
from fedmri.evaluate.hospitals.planner import plan_halving
from fedmri.evaluate.proportions import clopper_pearson
from fedmri.harmonize.judging.held_out import predicted_at
from fedmri.harmonize.tables.levels import numbers
from fedmri.harmonize.tables.table import Columns, cohort
from fedmri.harmonize.tables.table_source import read

Array = NDArray[np.float64]
LEAST = 3
"""Patients from which a site's error has a standard error."""


def main() -> None:
    """Leave each site out, then predict each site's error from the others'."""
    path, column, target, *more = sys.argv[1:]
    repetitions, seed = (int(more[i]) if len(more) > i else own for i, own in ((0, 200), (1, 0)))
    also = tuple(more[2].split(",")) if len(more) > 2 else ()
    names, errors = left_out(Path(path), Columns(column, others=(target,), also=also))
    sites = [name for name, n in sorted(Counter(names.tolist()).items()) if n >= LEAST]
    sizes = {site: np.abs(errors[names == site]) for site in sites}
    mae = {site: float(own.mean()) for site, own in sizes.items()}
    error = {site: float(own.std(ddof=1)) / math.sqrt(len(own)) for site, own in sizes.items()}
    told = ", ".join(f"{site} {mae[site]:.1f} ({len(sizes[site])})" for site in sites)
    print(f"{len(sites)} sites, {len(errors)} patients; MAE by left-out site (patients): {told}")
    whole = new_hospital(list(mae.values()), list(error.values()), scale="log", prior=WEAK)
    if whole is None:
        return
    print(f"mean {whole.mean:.2f} ({whole.mean_low:.2f} to {whole.mean_high:.2f}), new hospital "
          f"{whole.low:.2f} to {whole.high:.2f} years")  # fmt: skip
    print(" ".join(plan_halving(whole, list(error.values()), list(mae.values())).sentences()))
    print("\n| predicted from | prior | no prior | mean's interval | predictions |")
    print("| --- | ---: | ---: | ---: | ---: |")
    rng = np.random.default_rng(seed)
    for k in (3, 4, 6, 10, len(sites) - 1):
        rows = []
        for _ in range(1 if k == len(sites) - 1 else repetitions // len(sites) + 1):
            for site in sites:
                others = [one for one in sites if one != site]
                drawn = rng.choice(others, k, replace=False) if k < len(others) else others
                rows.append(held(site, [str(one) for one in drawn], mae, error))
        shares = np.mean(rows, axis=0)
        low, high = clopper_pearson(float(shares[0]), len(sites))
        told = f"{shares[0]:.3f} ({low:.2f} to {high:.2f})"
        print(f"| {k} sites | {told} | {shares[1]:.3f} | {shares[2]:.3f} | {len(rows)} |")
    print(f"\nIn brackets: exact 95 % interval of the share, over {len(sites)} sites.")


def left_out(path: Path, columns: Columns) -> tuple[NDArray[np.str_], Array]:
    """Return the site of each row and predicted minus true, by models that do not know the site."""
    source = read(path)
    found = cohort(source.frame, columns)
    truth = numbers(source.frame[columns.others[0]])[0]
    errors = np.full(len(truth), np.nan)
    for site in found.names:
        is_left = found.sites == site
        split = np.flatnonzero(~is_left), np.flatnonzero(is_left)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            errors[split[1]] = predicted_at(found.values, truth, split) - truth[split[1]]
    return found.sites, errors


def held(
    site: str, others: list[str], mae: dict[str, float], error: dict[str, float]
) -> tuple[bool, bool, bool]:
    """Return whether a site's error is in the intervals from some other sites."""
    found = new_hospital(
        [mae[one] for one in others], [error[one] for one in others], scale="log", prior=WEAK
    )
    if found is None:
        return False, False, False
    plain = found.frequentist
    ends = ((found.low, found.high), (plain.new_low, plain.new_high), (plain.low, plain.high))
    first, second, third = (is_in(mae[site], error[site], found, *pair) for pair in ends)
    return first, second, third


def is_in(value: float, error: float, found: NewHospital, low: float, high: float) -> bool:
    """Tell whether an error is in an interval for its true value, given its own standard error."""
    centre, own = onto(value, error, found.scale)
    middle, half = (math.log(high) + math.log(low)) / 2, (math.log(high) - math.log(low)) / 2
    half = math.hypot(half, quantile_of(math.inf) * own)
    return (
        back(middle - half, found.scale)
        <= back(centre, found.scale)
        <= back(middle + half, found.scale)
    )


if __name__ == "__main__":
    main()

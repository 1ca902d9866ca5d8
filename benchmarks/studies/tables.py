"""Brain age from tables of regional volumes: at left-out hospitals, and worth joining.

    python benchmarks/studies/tables.py fcon1000 TABULAR OUT [SEEDS]
    python benchmarks/studies/tables.py ixi_dlmuse TABULAR OUT [SEEDS]

A ridge reads the features. Its sums over hospitals give the very model of pooled rows, so it is the
federated model too. Each seed trains on a bootstrap of the training patients. What a seed predicted
under an arm is kept in OUT: stopped, the same command goes on.

- own: each hospital's own model; five folds within each hospital.
- federated: the model of all hospitals; the same folds.
- left out: the model of the other hospitals, on features as they are.
- left out, ComBat: fitted on the other hospitals; the new one by its own rows without their ages.
- left out, ComBat keeps age: as the literature uses it, fitted on all rows with age as a covariate.
  It reads the answers that it is scored on (H07): fedmri refuses it outside this comparison.
- looks at nothing: the median age of the training patients.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmri.evaluate.comparisons.joining import HospitalScores, worth_joining
from fedmri.evaluate.comparisons.paired import Paired, holm, paired_means
from fedmri.evaluate.hospitals.new_hospital import WEAK, new_hospital
from fedmri.harmonize.combat.combat_table import harmonize
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.judging.held_out import predicted_at
from fedmri.harmonize.tables.levels import numbers
from fedmri.harmonize.tables.table import Cohort, Columns, cohort
from fedmri.harmonize.tables.table_source import read

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
N_FOLDS, LEAST = 5, 10
REFERENCE = "left out"


@dataclass(frozen=True)
class Data:
    """A table of features with the age of each row."""

    table: Cohort
    age: Array


def data_of(study: str, folder: Path, out: Path) -> Data:
    """Read the table of a study."""
    if study == "fcon1000":
        path = folder / "fcon1000.csv"
        columns = Columns("site", others=("age",), also=("SurfaceHoles", "avg_en"))
        return _data(path, columns, "age")
    own = folder / "ixi_dlmuse"
    volumes, people = (pd.read_csv(own / f"IXI_{name}.csv") for name in ("DLMUSE", "demog"))
    path = out / "ixi.csv"
    volumes.merge(people, on="ID").drop(columns="Sex").to_csv(path, index=False)
    return _data(path, Columns("ID", r"^IXI\d+-(\w+?)-", others=("Age",)), "Age")


def _data(path: Path, columns: Columns, target: str) -> Data:
    frame = read(path).frame
    return Data(cohort(frame, columns), numbers(frame[target])[0])


def splits(data: Data, arm: str) -> Iterator[tuple[Rows, Rows]]:
    """Yield training and test rows of an arm."""
    sites, everyone = data.table.sites, np.arange(len(data.age))
    fold = np.empty(len(everyone), dtype=int)
    for site in data.table.names:
        own = np.random.default_rng(0).permutation(np.flatnonzero(sites == site))
        fold[own] = np.arange(len(own)) % N_FOLDS
    for site in data.table.names:
        here = sites == site
        if arm.startswith(REFERENCE) or arm == "looks at nothing":
            yield everyone[~here], everyone[here]
            continue
        for number in range(N_FOLDS):
            is_test = here & (fold == number)
            is_train = (fold != number) & (here if arm == "own" else True)
            if is_test.any() and is_train.sum() >= LEAST:
                yield everyone[is_train], everyone[is_test]


def features(data: Data, arm: str, train: Rows) -> Array:
    """Return the features of all rows, as the model of an arm has them."""
    table, p = data.table, len(data.table.features)
    if arm == "left out, ComBat":
        is_train = np.isin(np.arange(len(data.age)), train)
        return harmonize(table, ComBat(p, n_min=1), is_train).values
    if arm == "left out, ComBat keeps age":
        kept = Cohort(table.sites, table.features, table.values, ("t",), data.age[:, None])
        return harmonize(kept, ComBat(p, ("t",), n_min=1)).values
    return table.values


def predictions(data: Data, arm: str, seed: int) -> Array:
    """Return the predicted age of each row by a model that did not train on it; NaN for none."""
    found = np.full(len(data.age), np.nan)
    rng = np.random.default_rng(seed)
    for train, test in splits(data, arm):
        values = features(data, arm, train)
        drawn = np.sort(rng.choice(train, len(train)))
        if arm == "looks at nothing":
            found[test] = np.median(data.age[drawn])
        else:
            found[test] = predicted_at(values, data.age, (drawn, test))
    return found


ARMS = (
    *("own", "federated", REFERENCE, "left out, ComBat", "left out, ComBat keeps age"),
    "looks at nothing",
)


def errors_of(data: Data, arm: str, n_seeds: int, out: Path) -> Array:
    """Return the mean error over seeds of each row, in years; what is in ``out`` is read."""
    errors = []
    for seed in range(n_seeds):
        path = out / f"{arm.replace(' ', '-').replace(',', '')}-{seed}.npy"
        if not path.exists():
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.save(file, predictions(data, arm, seed))
            part.rename(path)
        errors.append(np.abs(np.load(path) - data.age))
    return np.asarray(np.mean(errors, axis=0))


def main() -> None:
    """Predict, or read what was predicted; print the tables."""
    study, folder, out, *more = sys.argv[1:]
    place, n_seeds = Path(out) / study, int(more[0]) if more else 3
    place.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = data_of(study, Path(folder), place)
        errors = {arm: errors_of(data, arm, n_seeds, place) for arm in ARMS}
    sites = data.table.sites
    print(f"{len(data.age)} patients, {len(data.table.names)} hospitals, {n_seeds} seeds\n")
    _print_arms(errors, sites)
    print()
    for line in _joining(errors, sites):
        print(f"- {line}")


def _print_arms(errors: dict[str, Array], sites: NDArray[np.str_]) -> None:
    compared = [arm for arm in ARMS if arm != REFERENCE]
    pairs = {arm: _paired(errors[arm], errors[REFERENCE], sites) for arm in compared}
    adjusted = dict(zip(compared, holm([one.p_value for one in pairs.values()]), strict=True))
    print(
        "| model | MAE, years | a new hospital | minus left out | shown | adjusted p | patients |"
    )
    print("| --- | --- | --- | --- | --- | --- | ---: |")
    for arm in ARMS:
        known = np.isfinite(errors[arm])
        own = paired_means(errors[arm][known], np.zeros(known.sum()), sites=sites[known])
        cells = [arm, _text(own), _new(errors[arm], sites) if REFERENCE in arm else "-"]
        cells += ["-"] * 3
        if arm != REFERENCE:
            cells[3:] = [_text(pairs[arm], sign="+"), *_verdict(pairs[arm], adjusted[arm])]
        print(f"| {' | '.join(cells)} | {known.sum()} |")


def _paired(first: Array, second: Array, sites: NDArray[np.str_]) -> Paired:
    known = np.isfinite(first) & np.isfinite(second)
    return paired_means(first[known], second[known], sites=sites[known])


def _verdict(pair: Paired, p: float) -> tuple[str, str]:
    better = "better" if pair.difference.value < 0 else "worse"
    return better if p < 0.05 else "no difference shown", "< 0.001" if p < 0.001 else f"{p:.3f}"


def _text(pair: Paired, sign: str = "") -> str:
    one = pair.difference
    return f"{one.value:{sign}.2f} ({one.low:{sign}.2f} to {one.high:{sign}.2f})"


def _new(errors: Array, sites: NDArray[np.str_]) -> str:
    of_sites = [errors[sites == site] for site in np.unique(sites)]
    of_sites = [own for own in of_sites if len(own) >= 3]
    spread = [float(own.std(ddof=1) / np.sqrt(len(own))) for own in of_sites]
    found = new_hospital([float(o.mean()) for o in of_sites], spread, scale="log", prior=WEAK)
    return "-" if found is None else f"{found.low:.2f} to {found.high:.2f}"


def _joining(errors: dict[str, Array], sites: NDArray[np.str_]) -> list[str]:
    own, together = errors["own"], errors["federated"]
    known = {str(site): (sites == site) & np.isfinite(own) for site in np.unique(sites)}
    scores = [HospitalScores(s, own[k], together[k]) for s, k in known.items() if k.any()]
    found = worth_joining(scores, metric="MAE", is_higher_better=False)
    return [one.sentence for one in found]


if __name__ == "__main__":
    main()

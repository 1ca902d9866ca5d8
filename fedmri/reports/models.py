"""The models that a run compares: which arm's predictions count for which patients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fedmri.arm import Arm, Group
from fedmri.reports.results import EXTERNAL, Results, SiteCases
from fedmri.reports.statistics.intervals import Patients
from fedmri.tasks.task import Case

_SEEDS_APART = 1_000_003
"""Between the seeds of repeated folds, which are trainings of their own."""


@dataclass(frozen=True)
class Model:
    """One row of a table: a model, or several whose scores are averaged.

    Attributes:
        group: Which arms it is of, and how they are read.
        runs: Test patients by site, one entry a seed (times arm, where arms are averaged); a
            score is the mean of the runs' scores over the same patients.
        seeds: Of each run: what a training that is one of several is told by.
        validated: Validation patients by site, of the same runs; empty where they were not kept,
            and of folds, where one training's validation patients are another's test patients.
    """

    group: Group
    runs: tuple[SiteCases, ...]
    seeds: tuple[int, ...]
    validated: tuple[SiteCases, ...] = ()

    @property
    def is_main(self) -> bool:
        """Whether it is a network with answers of its own, and none that stands beside another."""
        is_aside = self.group.is_beside or self.group.is_reference
        return self.group.reading != "mean" and not is_aside

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.group.label

    @property
    def n_seeds(self) -> int:
        """Trainings behind it, each from a seed of its own."""
        return len(set(self.seeds))

    def patients(self) -> Patients:
        """Return the patients that every run was tested on, in order."""
        return patients_of(self.runs)


def patients_of(runs: Sequence[SiteCases]) -> Patients:
    """Return the patients that all of some runs have, in order."""
    common: dict[str, set[str]] = {}
    for site in sorted(set.intersection(*(set(run) for run in runs))):
        known = [{case.subject for case in run[site]} for run in runs]
        common[site] = set.intersection(*known)
    return tuple((site, tuple(sorted(names))) for site, names in common.items() if names)


def of_arm(results: Results, label: str) -> Model:
    """Return the model of one arm as it was trained."""
    runs = {seed: cases for (name, seed), cases in results.cases.items() if name == label}
    arm = results.comparison.arm(label)
    group = Group(label, arm.role, (label,), strategy=arm.strategy)
    return Model(group, tuple(runs.values()), tuple(runs))


def compared(results: Results) -> tuple[Model, ...]:
    """Return the rows of the result table that have test results."""
    models = (_read(results, group) for group in results.comparison.groups)
    return tuple(model for model in models if model.runs)


def _read(results: Results, group: Group) -> Model:
    tested = _put_together(results, group, results.cases)
    is_divided = any(results.comparison.arm(label).fold for label in group.arms)
    kept = {} if is_divided else _put_together(results, group, results.validated)
    if group.reading == "by_site":
        by_seed, validated = _at_home(tested), _at_home(kept)
        seeds, found = tuple(by_seed), tuple(validated.get(seed, {}) for seed in by_seed)
        return Model(group, tuple(by_seed.values()), seeds, found if validated else ())
    found = tuple(kept.get(key, {}) for key in tested)
    seeds = tuple(seed for _, seed in tested)
    return Model(group, tuple(tested.values()), seeds, found if kept else ())


def _put_together(
    results: Results, group: Group, cases_of_arms: Mapping[tuple[str, int], SiteCases]
) -> dict[tuple[Arm, int], SiteCases]:
    """Return the patients of each training; the folds of one model are one training."""
    whole: dict[tuple[Arm, int], dict[str, tuple[Case, ...]]] = {}
    for (label, seed), cases in cases_of_arms.items():
        if label in group.arms:
            arm = results.comparison.arm(label)
            key = replace(arm, fold=""), seed + _SEEDS_APART * _repeat(arm)
            known = whole.setdefault(key, {})
            for site, more in cases.items():
                known[site] = (*known.get(site, ()), *more)
    return dict(whole)


def _repeat(arm: Arm) -> int:
    return int(arm.fold.partition(".")[0]) - 1 if arm.fold else 0


def _at_home(tested: Mapping[tuple[Arm, int], SiteCases]) -> dict[int, SiteCases]:
    """Return by seed what each arm answers at the site that it is named for."""
    runs: dict[int, dict[str, tuple[Case, ...]]] = {}
    for (arm, seed), cases in sorted(tested.items(), key=lambda one: (one[0][1], one[0][0].label)):
        if arm.home in cases:
            runs.setdefault(seed, {})[arm.home] = cases[arm.home]
    return dict(runs)


def only(patients: Patients, sites: Iterable[str]) -> Patients:
    """Return the patients of some sites."""
    wanted = set(sites)
    return tuple(entry for entry in patients if entry[0] in wanted)


def common(first: Patients, second: Patients) -> Patients:
    """Return the patients that both have, so that their scores can be paired."""
    other = {site: set(subjects) for site, subjects in second}
    both = (
        (site, tuple(name for name in subjects if name in other.get(site, set())))
        for site, subjects in first
    )
    return tuple(entry for entry in both if entry[1])


def is_external(site: str) -> bool:
    """Whether a site took no part in training."""
    return site.startswith(EXTERNAL)


def cases_of(run: SiteCases, patients: Patients) -> Sequence[Case]:
    """Return a run's cases of some patients, in their order."""
    found = {(site, case.subject): case for site, cases in run.items() for case in cases}
    return [found[site, subject] for site, subjects in patients for subject in subjects]

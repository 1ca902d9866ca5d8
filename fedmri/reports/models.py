"""The models that a run compares: which arm's predictions count for which patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedmri.reports.intervals import Patients
from fedmri.reports.results import EXTERNAL, Results, SiteCases
from fedmri.training.task import Case

OWN = "local (own site)"
ALL = "local (all sites)"
PLAINEST = "fedavg"
LEFT_OUT = "federated (site left out)"
REFERENCES = ("linear", "baseline")
"""Models without a network, that no seed changes."""
POOLED_LEFT_OUT = "pooled (site left out)"


@dataclass(frozen=True)
class Model:
    """One row of a table: a model, or several whose scores are averaged.

    Attributes:
        label: Name in tables.
        runs: Test patients by site, one entry a seed (times arm, where arms are averaged); a
            score is the mean of the runs' scores over the same patients.
        seeds: Of each run: what a training that is one of several is told by.
    """

    label: str
    runs: tuple[SiteCases, ...]
    seeds: tuple[int, ...]

    @property
    def n_seeds(self) -> int:
        """Trainings behind it, each from a seed of its own."""
        return len(set(self.seeds))

    def patients(self) -> Patients:
        """Return the patients that every run was tested on, in order."""
        common: dict[str, set[str]] = {}
        for site in sorted(set.intersection(*(set(run) for run in self.runs))):
            tested = [{case.subject for case in run[site]} for run in self.runs]
            common[site] = set.intersection(*tested)
        return tuple((site, tuple(sorted(names))) for site, names in common.items() if names)


def of_arm(results: Results, arm: str) -> Model:
    """Return the model of one arm as it was trained."""
    runs = {seed: cases for (name, seed), cases in results.cases.items() if name == arm}
    return Model(arm, tuple(runs.values()), tuple(runs))


def arms(results: Results) -> tuple[str, ...]:
    """Return the arms that were tested, in the order of the tables."""
    order = ("federated", "loso", "pooled", "loso-pooled", "local", *REFERENCES)

    def rank(arm: str) -> tuple[int, bool, str]:
        kind, _, name = arm.partition(":")
        # of several strategies the plainest comes first: the others are read against it
        return (order.index(kind) if kind in order else len(order), name != PLAINEST, arm)

    return tuple(sorted({arm for arm, _ in results.cases}, key=rank))


def of_kind(results: Results, kind: str) -> tuple[str, ...]:
    """Return the arms of a kind: ``local`` gives ``local:DU`` and so on."""
    return tuple(arm for arm in arms(results) if arm.partition(":")[0] == kind)


def compared(results: Results) -> tuple[Model, ...]:
    """Return the rows of the result table."""
    rows = [of_arm(results, arm) for arm in of_kind(results, "federated")]
    rows += _composite(results, "loso", LEFT_OUT)
    rows += [of_arm(results, arm) for arm in of_kind(results, "pooled")]
    rows += _composite(results, "loso-pooled", POOLED_LEFT_OUT)
    rows += _composite(results, "local", OWN)
    rows += _averaged(results, ALL)
    known = {"federated", "loso", "pooled", "loso-pooled", "local"}
    known |= {f"loso-{name}" for name in REFERENCES}
    others = [arm for arm in arms(results) if arm.partition(":")[0] not in known]
    rows += [of_arm(results, arm) for arm in others]
    for name in REFERENCES:
        rows += _composite(results, f"loso-{name}", f"{name} (site left out)")
    return tuple(rows)


def _seeds(results: Results, names: Iterable[str]) -> list[int]:
    wanted = set(names)
    return sorted({seed for arm, seed in results.cases if arm in wanted})


def _composite(results: Results, kind: str, label: str) -> list[Model]:
    """Return one model that answers at each site with the arm that bears the site's name."""
    names = of_kind(results, kind)
    runs: dict[int, SiteCases] = {}
    for seed in _seeds(results, names):
        run: dict[str, tuple[Case, ...]] = {}
        for arm in names:
            site = arm.partition(":")[2]
            if tested := results.cases.get((arm, seed), {}).get(site):
                run[site] = tested
        if run:
            runs[seed] = run
    return [Model(label, tuple(runs.values()), tuple(runs))] if runs else []


def _averaged(results: Results, label: str) -> list[Model]:
    """Return the mean over the local arms, each tested at every site."""
    names = of_kind(results, "local")
    runs = {key: cases for key, cases in results.cases.items() if key[0] in set(names)}
    seeds = tuple(seed for _, seed in runs)
    return [Model(label, tuple(runs.values()), seeds)] if len(names) > 1 else []


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


def is_federated(label: str) -> bool:
    """Whether a model was trained by several sites together, data kept apart."""
    return label == LEFT_OUT or label.partition(":")[0] == "federated"


def is_reference(label: str) -> bool:
    """Whether a row is of a model without a network, trained once."""
    return label.partition(" (")[0] in REFERENCES


def is_baseline(label: str) -> bool:
    """Whether a row looks at no image."""
    return label.partition(" (")[0] == "baseline"


def is_left_out(label: str) -> bool:
    """Whether a row answers at each site with a model that was trained without the site."""
    return label.endswith("(site left out)")


def is_one_of_several(label: str) -> bool:
    """Whether a model is of one strategy among those that a run compares."""
    return label.startswith("federated:")


def is_external(site: str) -> bool:
    """Whether a site took no part in training."""
    return site.startswith(EXTERNAL)


def cases_of(run: SiteCases, patients: Patients) -> Sequence[Case]:
    """Return a run's cases of some patients, in their order."""
    found = {(site, case.subject): case for site, cases in run.items() for case in cases}
    return [found[site, subject] for site, subjects in patients for subject in subjects]

"""The models without a network that stand in every table: written beside the arms' cases."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmri.arm import Arm, Role
from fedmri.clients.training.results import write_cases
from fedmri.data.batches.examples import open_site
from fedmri.data.batches.site_data import SiteData
from fedmri.errors import DataError, FedmriError
from fedmri.machine.file_names import file_name
from fedmri.plan import Plan
from fedmri.simulation.arms.arm_runs import ArmSites
from fedmri.simulation.baselines.linear import linear_cases, table_cases
from fedmri.simulation.baselines.no_image import baseline_cases
from fedmri.tasks.task import Case, Task

log = logging.getLogger("fedmri.simulation")

Fit = Callable[[Sequence[SiteData], Mapping[str, SiteData], Task], dict[str, list[Case]]]

REFERENCES: Mapping[Role, Fit] = {
    "baseline": baseline_cases,
    "linear": linear_cases,
    "table": table_cases,
}
"""By name: class shares or the mean, which look at no image; fixed features, linear; and the same
regression on covariates alone, which says what the image adds to them."""


@dataclass(frozen=True)
class _Turn:
    """Whose patients a reference learns from, and whose it is tested on."""

    arm: Arm
    trained: Mapping[str, Path]
    tested: Mapping[str, Path]


def reference_arms(sites: ArmSites) -> tuple[Arm, ...]:
    """Return the arms that ``write_references`` may write."""
    return tuple(turn.arm for role in REFERENCES for turn in _turns(role, sites))


def write_references(cases: Path, plan: Plan, n_seeds: int, sites: ArmSites) -> None:
    """Write the test cases of all references; what an earlier call wrote is kept.

    Nothing in them depends on a seed. They are written for each seed, beside the arms.

    Args:
        cases: Folder of the run's cases.
        plan: What is learned.
        n_seeds: Trainings of each arm.
        sites: Whose data there are. Where ``whole`` has sites, each is also left out in turn.
    """
    for role, fit in REFERENCES.items():
        for turn in _turns(role, sites):
            folder = cases / file_name(turn.arm.label)
            if folder.exists():
                continue
            try:
                trained = list(dict(_opened(plan, turn.trained)).values())
                found = fit(trained, dict(_opened(plan, turn.tested)), plan.target)
            except FedmriError as error:
                log.error("no %s: %s", turn.arm.label, error)
                continue
            _write(folder, range(plan.seed, plan.seed + n_seeds), found)


def _turns(role: Role, sites: ArmSites) -> Iterator[_Turn]:
    yield _Turn(Arm(role), sites.sites, {**sites.sites, **sites.external})
    for left_out, path in sites.whole.items():
        others = {site: own for site, own in sites.sites.items() if site != left_out}
        yield _Turn(Arm(role, left_out=left_out), others, {left_out: path})


def _opened(plan: Plan, files: Mapping[str, Path]) -> Iterator[tuple[str, SiteData]]:
    for name, path in files.items():
        try:
            yield name, open_site([path], plan.target, plan.data)
        except DataError as error:
            log.error("no baseline for %s: %s", name, error)


def _write(folder: Path, seeds: range, found: Mapping[str, Sequence[Case]]) -> None:
    if not found:
        return
    part = folder.parent.parent / f"{folder.name}.part"  # a half of it is never taken for the whole
    shutil.rmtree(part, ignore_errors=True)
    for seed in seeds:
        of_seed = part / f"seed-{seed}"
        of_seed.mkdir(parents=True)
        for site, cases in found.items():
            write_cases(of_seed / f"{file_name(site)}.jsonl", cases)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part.rename(folder)

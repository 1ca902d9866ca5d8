"""The ensemble of the sites' own models: the mean of what they answer, patient by patient."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fedmri.arm import Arm
from fedmri.clients.training.results import read_cases, write_cases
from fedmri.machine.file_names import file_name
from fedmri.simulation.arms.arm_runs import ArmRun
from fedmri.simulation.settings import SimulationConfig
from fedmri.tasks.task import Case, Reading, Task

log = logging.getLogger("fedmri.simulation")

Members = dict[tuple[Arm, int], list[ArmRun]]


def ensemble_arms(runs: Sequence[ArmRun], config: SimulationConfig, task: Task) -> tuple[Arm, ...]:
    """Return the arms that ``write_ensembles`` may write."""
    return tuple(dict.fromkeys(arm for arm, _ in _members(runs, config, task)))


def write_ensembles(
    folder: Path, runs: Sequence[ArmRun], config: SimulationConfig, task: Task
) -> None:
    """Write the test cases of the ensembles from those of the local models.

    Nothing is trained, and nothing is chosen. A patient whom a member was not tested on is left
    out. Answers by voxel are not kept, so they have no ensemble.
    """
    if "ensemble" in config.arms and task.answer == "voxel":
        log.warning("no ensemble: the answers of a %s are not kept by voxel", task.title)
    for (arm, seed), members in _members(runs, config, task).items():
        own = folder / "cases" / file_name(arm.label) / f"seed-{seed}"
        own.mkdir(parents=True, exist_ok=True)
        for site in members[0].tested:
            files = [folder / "cases" / run.path / f"{file_name(site)}.jsonl" for run in members]
            found = [read_cases(file) for file in files if file.exists()]
            if len(found) == len(members):
                write_cases(own / f"{file_name(site)}.jsonl", list(_mean(found, task)))


def _members(runs: Sequence[ArmRun], config: SimulationConfig, task: Task) -> Members:
    """Return the local models behind each ensemble and seed: those of one part and fold."""
    found: Members = {}
    if "ensemble" not in config.arms or task.answer == "voxel":
        return found
    for run in runs:
        if run.arm.role == "local":
            arm = Arm("ensemble", part=run.arm.part, size=run.arm.size, fold=run.arm.fold)
            found.setdefault((arm, run.plan.seed), []).append(run)
    return found


def _mean(found: Sequence[Sequence[Case]], task: Task) -> Iterator[Case]:
    by_member = [{case.subject: case for case in cases} for cases in found]
    for subject in sorted(set.intersection(*map(set, by_member))):
        cases = [member[subject] for member in by_member]
        mean = np.mean([case.prediction for case in cases], axis=0)
        reading = Reading(cases[0].n_examples, cases[0].truth, (tuple(mean.tolist()),))
        yield task.case(cases[0].site, subject, [reading])

"""What the stages of a finished model do to new scans, and to a network that scores them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from fedmri.data.batches.site_data import SiteData, Split
from fedmri.models.weights import layout
from fedmri.stages.account import NothingLeaves
from fedmri.stages.on_answers import task_under
from fedmri.stages.registry import STAGES
from fedmri.stages.stage import AtSite, Made, Stage
from fedmri.tasks.task import Scaled, Task
from fedmri.trained.file.model_file import ModelFile


def as_trained(data: SiteData, file: ModelFile) -> SiteData:
    """Return examples as the stages of images changed those of training.

    A change remembers what it has seen of each image, so it is made anew for each call.
    """
    made = Made(file.card.plan)
    for name, stage in _fitted(file):
        arrays = {own: value.numpy() for own, value in file.harmonized[name].items()}
        change = stage.image_change(made, arrays)
        data = data if change is None else data.changed(change)
    return data


def task_of(file: ModelFile) -> Task:
    """Return what is predicted, as the stages of answers let outputs be read."""
    fitted = {
        name: {own: value.numpy() for own, value in file.harmonized[name].items()}
        for name, _ in _fitted(file)
    }
    return task_under(file.card.plan.target, dict(_fitted(file)), fitted)


def reading_of(file: ModelFile) -> str:
    """Return how a network's outputs become what is predicted, for programs that run an export."""
    task = task_of(file)
    if not isinstance(task, Scaled):
        return task.activation
    return f"{task.activation}, where target.scale={task.scale!r} target.centre={task.centre!r}"


@contextmanager
def scored_with(
    file: ModelFile, network: nn.Module, data: SiteData, site: str, split: Split
) -> Iterator[bool]:
    """Let the stages change what a network does; give whether the scored images were used."""
    plan, entries = file.card.plan, layout(network)
    with ExitStack() as stack:
        found = []
        for name, stage in _fitted(file):
            fitted = file.harmonized[name]
            at = AtSite(site, plan, data, NothingLeaves(), 0, network, entries, fitted=fitted)
            found.append(stack.enter_context(stage.scoring(at, split)))
        yield any(found)


def reads_own_site(file: ModelFile) -> list[str]:
    """Return the names of stages that read all scans of a site to score one."""
    return [name for name, stage in _fitted(file) if stage.is_own_site_read]


def _fitted(file: ModelFile) -> Iterator[tuple[str, Stage]]:
    named = ((STAGES.name_of(stage), stage) for stage in file.card.plan.stages)
    return ((name, stage) for name, stage in named if name in file.harmonized)

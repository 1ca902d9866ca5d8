"""A study from its settings to its result: what ``fedmri simulate`` does, as an object."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fedmri.api.factory import as_model
from fedmri.api.result import CONFIG, StudyResult, refuse_no_run
from fedmri.config import Experiment, as_value, as_yaml, load, load_resolved, quoted
from fedmri.errors import ConfigError
from fedmri.models.registry import MODELS
from fedmri.parts import ORIGIN
from fedmri.strategies.registry import STRATEGIES
from fedmri.tasks.registry import TASKS

if TYPE_CHECKING:
    from torch import nn

    from fedmri.models.model import Model
    from fedmri.models.sizes import Sizes
    from fedmri.round import Strategy
    from fedmri.tasks.task import Task

    Observer: TypeAlias = Callable[[dict[str, Any]], None]

COMMAND = "command.txt"
IN_PYTHON = "fedmri.Study(...).run()"


class Study:
    """Hospitals that train together on one machine, beside each alone and all pooled.

    Args:
        data: Folder of a data set: BIDS, ``site/class/*.png`` or DICOM. Empty makes five hospitals
            from a brain atlas.
        target: A task, such as ``fedmri.Segmentation`` or ``fedmri.Classification``; None keeps
            that of the settings.
        model: Name of a model, a model, or a function from the sizes of images and outputs
            (``fedmri.models.sizes.Sizes``) to a network.
        strategies: Names of strategies, or strategies; several are compared under one budget.
        sites: Hospitals; 0 takes all that the data have.
        settings: Further settings, such as ``train.lr=1e-3``; they win over all the others.
        config: YAML file of settings.

    Raises:
        ConfigError: A setting is not known, cannot be taken or contradicts another (C01 to C04).
    """

    def __init__(  # noqa: PLR0913  # every one is named at the call
        self,
        data: str | os.PathLike[str] = "",
        *,
        target: Task | None = None,
        model: str | Model | Callable[[Sizes], nn.Module] = "",
        strategies: Sequence[str | Strategy] = (),
        sites: int = 0,
        settings: Sequence[str] = (),
        config: Path | None = None,
    ) -> None:
        named = [*_given(data, sites), *_of_target(target)]
        named += [f"model={model}"] if isinstance(model, str) and model else []
        experiment = load([*named, *settings], config)
        own = None if isinstance(model, str) else as_model(model)
        self.experiment = _with_parts(experiment, own, strategies)
        self.folder: Path | None = None

    @classmethod
    def from_settings(
        cls, overrides: Sequence[str], file: Path | None = None, compared: Sequence[str] = ()
    ) -> Study:
        """Return the study of settings as the command line takes them.

        Args:
            overrides: ``key=value`` each.
            file: YAML of the same keys.
            compared: Names of strategies to compare. A setting of strategies counts for those that
                have it.

        Raises:
            ConfigError: A setting is not known, or cannot be taken (C01 to C04).
        """
        each = [
            load([*_meant_for(name, compared, overrides), f"strategy={name}"], file)
            for name in compared
        ]
        if not each:
            return cls(settings=overrides, config=file)
        strategies = tuple(one.plan.strategy for one in each)
        first = each[0]
        simulation = replace(first.simulation, strategies=strategies)
        return cls._from(replace(first, simulation=simulation), None)

    @classmethod
    def resumed(cls, folder: str | os.PathLike[str]) -> Study:
        """Return the study of a run folder, to go on with it to the same bits.

        Raises:
            UsageError: It is no run folder (U02).
        """
        refuse_no_run(folder)
        return cls._from(load_resolved(Path(folder) / CONFIG), Path(folder))

    @classmethod
    def replayed(cls, folder: str | os.PathLike[str]) -> Study:
        """Return the federation of a run folder again: each round takes the same updates.

        Raises:
            UsageError: It is no run folder (U02), or its rounds waited for all (U10).
        """
        from fedmri.simulation.study import taken_file

        refuse_no_run(folder)
        experiment = load_resolved(Path(folder) / CONFIG)
        record = taken_file(Path(folder), experiment.plan.seed)
        simulation = replace(
            experiment.simulation, arms=("federated",), slow=(), replay=str(record)
        )
        return cls._from(replace(experiment, simulation=simulation), None)

    @classmethod
    def placed(cls, experiment: Experiment, folder: Path) -> Study:
        """Return the study of an experiment in a run folder that a larger study names."""
        return cls._from(experiment, folder)

    @classmethod
    def _from(cls, experiment: Experiment, folder: Path | None) -> Study:
        study = cls.__new__(cls)
        study.experiment, study.folder = experiment, folder
        return study

    def settings(self) -> str:
        """Return all settings as YAML."""
        return as_yaml(self.experiment)

    def check(self) -> None:
        """Refuse what could only fail after hours; nothing is read, trained or written.

        Raises:
            ConfigError: Settings, parts and images do not go together, or a package is absent.
            PrivacyError: Privacy would not hold (P32, P57, P66, P67).
            DataError: A data set is not there (D04).
        """
        from fedmri.api.tracking.tracked import refuse_absent
        from fedmri.simulation.study import refuse_impossible

        _refuse_untriable(self.experiment)
        refuse_absent(self.experiment.simulation.trackers)
        refuse_impossible(self.experiment.plan, self.experiment.simulation)

    def begun(self, command: str = IN_PYTHON) -> Study:
        """Return the study with a run folder, which it makes where there is none."""
        if self.folder is not None:
            return self
        from fedmri.simulation.study import new_folder

        self.check()  # before there is a run folder
        chosen = self.settled()
        folder = new_folder(Path(self.experiment.simulation.runs), self.experiment.plan.name)
        (folder / CONFIG).write_text(chosen.settings(), encoding="utf-8")
        (folder / COMMAND).write_text(command, encoding="utf-8", errors="backslashreplace")
        return self._from(chosen.experiment, folder)

    def settled(self) -> Study:
        """Return the study with what its network computes with, which this machine chooses once."""
        from fedmri.assembly import settled
        from fedmri.machine.cache import arithmetic_file

        memory = arithmetic_file(self.experiment.simulation.cache)
        plan = settled(self.experiment.plan, memory)
        return self._from(replace(self.experiment, plan=plan), self.folder)

    @property
    def run_folder(self) -> Path:
        """Run folder of a study that has begun."""
        if self.folder is None:
            raise ValueError("the study has no folder before it begins")
        return self.folder

    def run(self, observe: Observer | None = None) -> StudyResult:
        """Prepare, train, test and report; what an interrupted run has done is not done again.

        Args:
            observe: Is told of every record; None shows a progress bar in a terminal or notebook.

        Raises:
            DataError: The data cannot be trained on.
            RoundError: Arms failed (R08); the others are complete.
            UsageError: Another process works on the run (U02).
        """
        result = self.begun().trained(observe)
        result.refuse_failed()
        return result

    def trained(self, observe: Observer | None = None) -> StudyResult:
        """Return the reported result of a study that has begun, arms that failed among it."""
        from fedmri.api.tracking.tracked import track
        from fedmri.simulation.study import Study as Simulated
        from fedmri.simulation.study import run_study

        if self.folder is None:
            return self.begun().trained(observe)
        if self.experiment.recipe.is_on:
            return self._tried(observe)
        experiment = _in_one_process(self.experiment) if self._has_held() else self.experiment
        command = (self.folder / COMMAND).read_text(encoding="utf-8")
        settings = (experiment.partition, experiment.simulation)
        simulated = Simulated(experiment.plan, *settings, self.folder, command)
        with _observing(self.experiment, observe) as told:
            failed = run_study(simulated, told)
        result = StudyResult(self.folder, failed)
        if result.is_federation_there:
            _ = result.summary  # writes the report, and the scores into the models' files
            track(self.folder, self.experiment)
        return result

    def _tried(self, observe: Observer | None) -> StudyResult:
        """Return the result of what validation patients chose among the trials of a recipe."""
        from fedmri.api.grid.file import StudyFile
        from fedmri.api.grid.study_grid import StudyGrid

        recipe = self.experiment.recipe
        file = StudyFile(self.experiment.plan.name, recipe=recipe)
        base = replace(self.experiment, recipe=replace(recipe, kind="none"))
        grid = StudyGrid(file, self.run_folder, base)
        if observe is None:
            from rich.console import Console

            chosen = grid.run(tell=Console(stderr=True).print).chosen
        else:
            chosen = grid.run(observe=observe).chosen
        assert chosen is not None, "a recipe chooses"
        return chosen

    def _has_held(self) -> bool:
        plan, compared = self.experiment.plan, self.experiment.simulation.strategies
        is_held = [STRATEGIES.is_held(one) for one in (plan.strategy, *compared)]
        return any(is_held) or MODELS.is_held(plan.model) or TASKS.is_held(plan.target)


def _with_parts(
    experiment: Experiment, model: Model | None, strategies: Sequence[str | Strategy]
) -> Experiment:
    """Return settings with a model and strategies; a class of this process is held for it."""
    plan, simulation = experiment.plan, experiment.simulation
    if model is not None:
        MODELS.hold(model)
        plan = replace(plan, model=model)
    chosen = tuple(STRATEGIES.made(one) for one in strategies)
    for strategy in chosen:
        STRATEGIES.hold(strategy)
    if len(chosen) == 1:
        plan = replace(plan, strategy=chosen[0])
    elif chosen:
        simulation = replace(simulation, strategies=chosen)
    return replace(experiment, plan=plan, simulation=simulation)


def _meant_for(name: str, names: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return settings without those of ``strategy`` that another of the names has alone."""
    known = {one: STRATEGIES.settings(one) for one in names}
    others = {
        f"strategy.{key}" for keys in known.values() for key in keys if key not in known[name]
    }
    return [text for text in overrides if text.partition("=")[0] not in others]


def _refuse_untriable(experiment: Experiment) -> None:
    """Refuse a recipe that nothing could be chosen of (C03)."""
    if not experiment.recipe.is_on:
        return
    compared, val = experiment.simulation.strategies, experiment.plan.data.split.val
    found = f"{len(compared)} strategies, data.split.val={val:g}"
    if compared or not val:
        what, want = "setting recipe=auto", "one strategy, and patients who validate"
        fix = "leave simulation.strategies out, and set data.split.val above 0"
        raise ConfigError("C03", what, found=found, want=want, fix=fix)


def _in_one_process(experiment: Experiment) -> Experiment:
    """Return settings that train here: no other process knows a class of this one."""
    here = replace(experiment.simulation, workers=1, backend="local")
    return replace(experiment, simulation=here)


@contextmanager
def _observing(experiment: Experiment, observe: Observer | None) -> Iterator[Observer]:
    if observe is not None:
        yield observe
        return
    from rich.console import Console

    from fedmri.simulation.progress import Bars

    with Bars(experiment.plan, Console(stderr=True)) as bars:
        yield bars


def _given(data: str | os.PathLike[str], sites: int) -> Iterator[str]:
    if data:
        yield f"data.source.path={quoted(str(Path(data).expanduser().absolute()))}"
    if sites:
        yield f"partition.n_sites={sites}"


def _of_target(target: Task | None) -> Iterator[str]:
    if target is None:
        return
    TASKS.hold(target)
    for name, value in TASKS.as_dict(target).items():
        if name != ORIGIN:  # of what is installed here
            yield f"target.{name}={as_value(value)}"

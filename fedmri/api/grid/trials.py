"""The runs of a study, one after another: those of a grid, or those that a search proposes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmri.api.grid.pace import Pace
from fedmri.api.grid.search import Search, Tune
from fedmri.api.result import CONFIG
from fedmri.api.study import COMMAND, Study
from fedmri.arm import read_comparison
from fedmri.errors import RoundError
from fedmri.machine.files import write_whole

SUMMARY = "summary.json"
"""File of a run folder that says that the run is over and reported."""
RUN_TABLE = "summary.md"
Observe = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Variant:
    """One run of a study.

    Attributes:
        values: What it has of the grid, by the key of a setting.
        study: The run.
    """

    values: Mapping[str, Any]
    study: Study

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.study.run_folder

    @property
    def is_done(self) -> bool:
        """Whether it is over."""
        return (self.folder / SUMMARY).exists()

    @property
    def name(self) -> str:
        """Its values in a line."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items()) or "as it is"


class Trials:
    """The trials of a search: proposed, run, and scored on validation patients.

    Args:
        variant: Makes the run of some values.
        pace: Is told of what is done.
        observe: Is told of every record.
    """

    def __init__(
        self, variant: Callable[[Mapping[str, Any]], Variant], pace: Pace, observe: Observe
    ) -> None:
        self._variant, self._pace, self._observe = variant, pace, observe
        self.failed: dict[Path, RoundError] = {}

    def searched(self, tune: Tune) -> tuple[Variant, ...]:
        """Run all trials that are not done; return those that succeeded, each once.

        Proposals follow scores only where no patient that is validated in one arm is tested in
        another. Where sites are left out or folds turn, all proposals are random.

        Raises:
            RoundError: All trials failed (R08).
        """
        found: dict[Path, Variant] = {}
        task = self._variant({}).study.experiment.plan.target
        search = Search(tune, is_higher_better=task.is_higher_better)
        for _ in range(tune.n_trials):
            one = self._variant(search.ask())
            try:
                done_once(one, self._pace, self._observe)
            except RoundError as error:
                self.failed[one.folder] = error
                search.tell(math.nan)
                continue
            found[one.folder] = one
            search.tell(score_of(one))
            if _is_one_split(one):
                search.follow_scores()
        if not found:
            raise next(iter(self.failed.values()))
        return tuple(found.values())


def score_of(variant: Variant) -> float:
    """Return the mean score of all arms on validation patients; each arm counts alike."""
    from fedmri.api.grid.choice import validation_scores
    from fedmri.reports.results import load_results

    task = variant.study.experiment.plan.target
    scores = [*validation_scores(load_results(variant.folder), task.primary).values()]
    return sum(scores) / len(scores) if scores else math.nan


def _is_one_split(variant: Variant) -> bool:
    arms = read_comparison(variant.folder).arms
    return not any(arm.left_out or arm.fold for arm in arms)


def done_once(variant: Variant, pace: Pace, observe: Observe) -> None:
    """Do a run, unless it is done.

    Raises:
        RoundError: Arms of it failed (R08).
    """
    if variant.is_done:
        pace.skip()
    else:
        _run(variant, observe)


def _run(variant: Variant, observe: Observe) -> None:
    from fedmri.reports.text.tables import as_json, as_markdown

    study, folder = variant.study, variant.folder
    if (folder / CONFIG).exists():  # what its network computes with was chosen when it began
        begun = replace(study.experiment, plan=Study.resumed(folder).experiment.plan)
        study = Study.placed(begun, folder)
    else:
        study.check()
        study = study.settled()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COMMAND).write_text("fedmri study", encoding="utf-8")
        write_whole(folder / "values.json", json.dumps(dict(variant.values)) + "\n")
        write_whole(folder / CONFIG, study.settings())
    result = study.trained(observe)
    result.refuse_failed()
    write_whole(folder / RUN_TABLE, as_markdown(result.summary))
    write_whole(folder / SUMMARY, as_json(result.summary))  # last: it says that the run is over

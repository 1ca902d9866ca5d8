"""A study of several runs: each is done once, whatever interrupts it, and read together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmri.api.grid.file import StudyFile, read_study
from fedmri.api.grid.pace import Pace
from fedmri.api.grid.trials import RUN_TABLE, Trials, Variant, done_once
from fedmri.api.result import CHOSEN, StudyResult
from fedmri.api.study import Study
from fedmri.config import Experiment, changed
from fedmri.errors import UsageError
from fedmri.machine.files import hold, write_whole

if TYPE_CHECKING:
    import pandas as pd

TABLE = "study.md"
_MACHINERY: Mapping[str, Any] = {
    "workers": 0,
    "backend": "local",
    "cache": "",
    "runs": "runs",
    "trackers": (),
}
"""Settings that change no bit of a result: a run with others is the same run."""


@dataclass(frozen=True)
class GridResult:
    """What a study of several runs showed.

    Attributes:
        folder: Folder of the study.
        variants: Its runs.
        chosen: The report of the arms that validation patients chose; None where nothing was.
        n_failed: Trials of a search that failed.
    """

    folder: Path
    variants: tuple[Variant, ...]
    chosen: StudyResult | None
    n_failed: int = 0

    @property
    def n_trials(self) -> int:
        """Settings that were tried, failed ones too."""
        return len(self.variants) + self.n_failed

    def table(self) -> pd.DataFrame:
        """Return the scores of all runs: those of ``StudyResult.table``, and a column ``run``."""
        import pandas as pd

        tables = [
            StudyResult.open(one.folder).table().assign(run=one.name) for one in self.variants
        ]
        return pd.concat(tables, ignore_index=True)


class StudyGrid:
    """Several runs over one set of data: every combination of a grid of settings.

    Data are prepared once. A training that two runs share is done once. Stopped at any moment, a
    study goes on where it was, and after a change it redoes only what the change decides.

    Args:
        file: YAML file of the study, or the study.
        folder: Where it is written; None takes a folder of its name, beside the file.
        base: Experiment that all runs share, in place of the settings of the file.

    Raises:
        ConfigError: The file or a setting cannot be taken.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | StudyFile,
        folder: str | os.PathLike[str] | None = None,
        base: Experiment | None = None,
    ) -> None:
        if isinstance(file, StudyFile):
            self.file, beside = file, Path(file.name)
        else:
            self.file, beside = read_study(Path(file)), Path(file).with_suffix("")
        self.folder, self._base = Path(folder or beside).absolute(), base
        plan = None if base is None else base.plan
        variants = () if self.file.tune else self.file.variants(plan)
        self.variants = tuple(map(self._variant, variants))

    def run(
        self,
        tell: Callable[[str], None] = lambda line: None,
        observe: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> GridResult:
        """Do all runs that are not done, choose where the file says so, and write the tables.

        A search goes on where a trial failed.

        Args:
            tell: Is given a line on progress after each training.
            observe: Is told of every record.

        Raises:
            RoundError: Arms of a run failed (R08), or all trials did; all else is kept.
            UsageError: Another process works on the study (U02).
        """
        with self._alone():
            tune = self.file.tune
            pace = Pace(tune.n_trials if tune else len(self.variants), tell)

            def watch(record: dict[str, Any]) -> None:
                pace.observe(record)
                observe(record)

            failed: Sequence[Path] = ()
            if tune:
                trials = Trials(self._variant, pace, watch)
                self.variants, failed = trials.searched(tune), tuple(trials.failed)
            else:
                for variant in self.variants:
                    done_once(variant, pace, watch)
            chosen = self._choose(failed) if self.file.has_choice else None
            result = GridResult(self.folder, self.variants, chosen, len(failed))
            write_whole(self.folder / TABLE, self._as_markdown(result))
        return result

    def _variant(self, values: Mapping[str, Any]) -> Variant:
        from fedmri.simulation.arms.store import data_key

        if self._base is None:
            study = Study.from_settings(self.file.overrides(values))
        else:
            study = Study.placed(changed(self._base, values), self.folder)
        simulation = study.experiment.simulation
        bare = replace(study.experiment, simulation=replace(simulation, **_MACHINERY))
        data = bare.plan.data.source.path, simulation.external
        key = data_key({"settings": Study.placed(bare, self.folder).settings()}, data)[:12]
        kept = replace(simulation, store=str(self.folder / "steps"))
        experiment = replace(study.experiment, simulation=kept)
        return Variant(values, Study.placed(experiment, self.folder / "runs" / key))

    def _choose(self, failed: Sequence[Path]) -> StudyResult:
        from fedmri.api.grid.choice import choose, gather, privacy_of_all, validation_scores
        from fedmri.reports.results import load_results

        runs = [one.folder for one in self.variants]
        task = self.variants[0].study.experiment.plan.target
        chosen = choose(runs, task)
        scores = [validation_scores(load_results(run), task.primary) for run in runs]
        named = {one.folder: one.name for one in self.variants}
        told = {
            "metric": task.primary,
            "n_trials": len(runs) + len(failed),
            "n_failed": len(failed),
            "spent": privacy_of_all([*runs, *failed]),
            "is_private": any(v.study.experiment.plan.privacy.is_on for v in self.variants),
            "chosen": {one.arm: {"settings": named[one.run], "score": one.score} for one in chosen},
            "tried": [
                {"settings": named[run], "scores": own}
                for run, own in zip(runs, scores, strict=True)
            ],
        }
        gather(chosen, runs, told, self.folder / CHOSEN)
        result = StudyResult.open(self.folder / CHOSEN)
        _ = result.summary  # writes the report
        return result

    def _as_markdown(self, result: GridResult) -> str:
        from fedmri.reports.text.tables import as_markdown

        n = result.n_trials
        lines = [f"# {self.file.name}", ""]
        if result.chosen is not None:
            lines += [
                f"Each arm had {n} trials. Validation patients chose among them, and test patients "
                f"had no say. Report: {CHOSEN}/report.html",
                "",
                as_markdown(result.chosen.summary),
            ]
        elif n > 1:
            lines += ["The best of several runs, picked by test patients, looks too good.", ""]
        for one in self.variants:
            table = (one.folder / RUN_TABLE).read_text(encoding="utf-8")
            lines += [f"## {one.name}", "", table]
        return "\n".join(lines)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            number = hold(self.folder)
        except BlockingIOError as error:
            found, fix = "another process that works on it", "wait for its end, or end it"
            what = f"study {self.folder}"
            raise UsageError("U02", what, found=found, want="none", fix=fix) from error
        try:
            yield
        finally:
            os.close(number)

"""What a study showed: tables, the page, and the models that came out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fedmri.arm import Arm
from fedmri.errors import RoundError, UsageError
from fedmri.trained.file.names import MODEL

if TYPE_CHECKING:
    import pandas as pd

    from fedmri.config import Experiment
    from fedmri.reports.summary import Summary
    from fedmri.trained import TrainedModel


CONFIG = "config.yaml"
CHOSEN = "chosen"
"""Folder of what was chosen among several runs, a run folder itself."""


def refuse_no_run(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that is no run folder (U02)."""
    if not (Path(folder) / CONFIG).exists():
        fix = "give the folder that the interrupted command named"
        want = f"a run folder with {CONFIG}"
        raise UsageError("U02", f"run {folder}", found=f"no {CONFIG}", want=want, fix=fix)


@dataclass(frozen=True)
class StudyResult:
    """The result of a run folder.

    Attributes:
        folder: The run folder.
        failed: What went wrong with each arm that failed.
    """

    folder: Path
    failed: Mapping[Arm, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> StudyResult:
        """Return the result of a run folder that has finished.

        Of a run that tried a recipe it is what validation patients chose.

        Raises:
            UsageError: It is no run folder (U02).
        """
        refuse_no_run(folder)
        chosen = Path(folder) / CHOSEN
        return cls(chosen if (chosen / CONFIG).exists() else Path(folder))

    @property
    def is_federation_there(self) -> bool:
        """Whether a federation of all sites is complete, so that there is something to report."""
        failed = [arm for arm in self.failed if not arm.left_out and not arm.part]
        n_failed = sum(arm.role == "federated" for arm in failed)
        return n_failed < max(1, len(self._experiment.simulation.strategies))

    @cached_property
    def _experiment(self) -> Experiment:
        from fedmri.config import load_resolved

        return load_resolved(self.folder / CONFIG)

    @cached_property
    def summary(self) -> Summary:
        """All numbers, with intervals and verdicts.

        On the way ``report.html`` is written, and the models' files are given their scores.

        Raises:
            UsageError: A file is missing or broken (U10, U11), or no patient was tested (U12).
        """
        from fedmri.reports.pages.page import write_report
        from fedmri.trained.file.run_folder import put_scores

        plan = self._experiment.plan
        task = plan.target
        found = write_report(self.folder, task)[1]
        put_scores(self.folder, task)
        return found

    @property
    def report(self) -> Path:
        """The page, which needs no other file."""
        _ = self.summary
        return self.folder / "report.html"

    @cached_property
    def harmonization(self) -> Path | None:
        """The page that judges a harmonization of images, None where there was none.

        It is written once, beside the report.
        """
        from fedmri.api.pages.image_page import image_page

        plan = self._experiment.plan
        return image_page(plan, self.folder, self.summary)

    def table(self) -> pd.DataFrame:
        """Return the scores: a row for each model and metric, over patients of all sites.

        Columns: ``model``, ``metric``, ``value``, ``low`` and ``high`` (95 % interval, NaN where
        there is none), ``n_subjects``, ``n_seeds``.
        """
        import pandas as pd

        rows = [
            {"model": row.label, "metric": name}
            | {"value": one.value, "low": one.low, "high": one.high}
            | {"n_subjects": one.n_subjects, "n_seeds": row.n_seeds}
            for row in self.summary.rows
            for name, one in row.overall.items()
        ]
        return pd.DataFrame(rows)

    def differences(self) -> pd.DataFrame:
        """Return paired differences of the primary metric, with verdicts adjusted by Holm."""
        import pandas as pd

        rows = [
            {"model": one.label, "minus": one.reference, "value": one.estimate.value}
            | {"low": one.estimate.low, "high": one.estimate.high, "p": one.p_adjusted}
            | {"shown": one.verdict, "n_subjects": one.estimate.n_subjects}
            for one in self.summary.differences
        ]
        return pd.DataFrame(rows)

    def model(
        self, label: str = "federated", seed: int | None = None, site: str = ""
    ) -> TrainedModel:
        """Return the model that an arm ended with.

        Args:
            label: The arm, as the tables name it: ``federated``, ``pooled``, ``local:SITE``.
            seed: Its training seed; None takes the first.
            site: Whose own model is wanted, where sites keep a part of it; empty takes the shared.

        Raises:
            UsageError: There is no such model (U10), or its file cannot be used.
        """
        from fedmri.machine.file_names import file_name
        from fedmri.trained import TrainedModel

        first = self._experiment.plan.seed if seed is None else seed
        folder = self.folder / (f"sites/{file_name(site)}" if site else "arms")
        path = folder / file_name(label) / f"seed-{first}" / MODEL
        if not path.exists():
            fix = "name an arm of the table that has trained, and one of its seeds"
            what, found = f"model {label}, seed {first}", f"no {path}"
            raise UsageError("U10", what, found=found, want="it", fix=fix)
        return TrainedModel.open(path)

    def refuse_other_bits(self, folder: Path) -> None:
        """Refuse a federated model whose weights are not those of another run folder (R46)."""
        own, other = (one.model().card.sha256 for one in (self, StudyResult.open(folder)))
        if own != other:
            fix = "replay it with the same version, machine, data and number of threads"
            what, found = f"replay of {folder}", f"weights {own[:12]}"
            raise RoundError("R46", what, found=found, want=f"weights {other[:12]}", fix=fix)

    def refuse_failed(self) -> None:
        """Raise RoundError R08 where an arm failed."""
        from fedmri.simulation.study import refuse_failed

        refuse_failed(self.failed, self.folder)

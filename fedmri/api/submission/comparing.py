"""Several finished runs side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fedmri.api.result import CONFIG, refuse_no_run
from fedmri.config import load_resolved
from fedmri.errors import UsageError
from fedmri.reports.between import Beside, beside
from fedmri.reports.own_task import refuse_other_task
from fedmri.reports.results import load_results


def compare_runs(runs: Sequence[str | os.PathLike[str]]) -> tuple[Beside, ...]:
    """Return the first model of each run, and its difference from the first run's.

    Args:
        runs: Folders of finished runs on the same patients.

    Raises:
        UsageError: There are fewer than two folders (U01), one is no run (U02, U10 to U13), its
            cases are of another task or the runs are of several (U13), or two runs share no test
            patient (U14).
    """
    if len(runs) < 2:
        want, fix = "two or more", "name the run to compare with first, and then the others"
        raise UsageError("U01", "runs to compare", found=str(len(runs)), want=want, fix=fix)
    for run in runs:
        refuse_no_run(run)
    tasks = [load_resolved(Path(run) / CONFIG).plan.target for run in runs]
    if any(task != tasks[0] for task in tasks):
        fix, what = "compare runs of one task", "tasks of the runs"
        raise UsageError("U13", what, found="different ones", want="the same", fix=fix)
    results = [load_results(Path(run)) for run in runs]
    for one in results:
        refuse_other_task(one, tasks[0])
    return beside(results, tasks[0])

"""Whether the test patients of a run folder are of the task that it is read with."""

from __future__ import annotations

from fedmri.errors import UsageError
from fedmri.reports.results import Results, SiteCases
from fedmri.tasks.task import Case, Reading, Task


def refuse_other_task(results: Results, task: Task) -> None:
    """Refuse cases that another task has written, as of two runs in one folder (U13)."""
    for (arm, _), sites in results.cases.items():
        try:
            is_own = _is_of(task, sites)
        except (ValueError, KeyError, IndexError, TypeError):
            is_own = False  # the task cannot read them
        if not is_own:
            raise UsageError(
                "U13",
                f"cases of {arm} in {results.run}",
                found=f"results of another task than {task.title} of {task.name}",
                want="those of the task in config.yaml",
                fix="restore config.yaml or cases/ from a copy, or run the experiment again",
            )


def _is_of(task: Task, sites: SiteCases) -> bool:
    for cases in sites.values():
        task.metrics(cases)
        if _n_predicted(task, cases[0]) != len(cases[0].prediction):
            return False
    return True


def _n_predicted(task: Task, case: Case) -> int:
    """Return how many numbers the task predicts of a patient; none where label maps are learned."""
    if task.label_map:
        return 0
    reading = Reading(case.n_examples, case.truth, (case.prediction,))
    return len(task.case(case.site, case.subject, [reading]).prediction)

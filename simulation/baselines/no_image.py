"""The baseline that looks at no image: what the task guesses from all training patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedmri.data.batches.site_data import Example, SiteData
from fedmri.round import Truth
from fedmri.tasks.task import Case, Reading, Task, patient_cases


def baseline_cases(
    trained: Sequence[SiteData], tested: Mapping[str, SiteData], task: Task
) -> dict[str, list[Case]]:
    """Return the baseline's test cases by site; empty where the task has no such guess.

    Args:
        trained: Data of the sites whose training patients are counted.
        tested: Data of the sites whose test patients are guessed.
        task: What is predicted.
    """
    train = [truths[0] for data in trained for truths in _truths(data.examples("train")).values()]
    guess = task.guess(train) if train else None
    if guess is None:
        return {}
    return {
        name: patient_cases(
            task,
            {
                (name, subject): [Reading(1, truth, (guess,)) for truth in truths]
                for subject, truths in _truths(data.examples("test")).items()
            },
        )
        for name, data in tested.items()
    }


def _truths(examples: Sequence[Example]) -> dict[str, list[Truth]]:
    """Return the truth of each scan of a site, by subject."""
    of_scan = {(example.subject, example.scan): example.target for example in examples}
    truths: dict[str, list[Truth]] = {}
    for (subject, _), target in of_scan.items():
        truths.setdefault(subject, []).append(target)
    return truths

"""The baseline that looks at no image: class shares, or the mean, of all training patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedmri.data.batches.site_data import Example, SiteData
from fedmri.round import Target
from fedmri.training.task import Case, LocalTask, Reading


def baseline_cases(
    trained: Sequence[SiteData], tested: Mapping[str, SiteData], task: LocalTask
) -> dict[str, list[Case]]:
    """Return the baseline's test cases by site; empty for segmentation, which has no such guess.

    Args:
        trained: Data of the sites whose training patients are counted.
        tested: Data of the sites whose test patients are guessed.
        task: What is predicted.
    """
    train = [truths[0] for data in trained for truths in _truths(data.examples("train")).values()]
    if task.target.kind == "segmentation" or not train:
        return {}
    guess = _guess(train, task.target)
    return {
        name: [
            task.case(name, subject, [Reading(1, truth, (guess,)) for truth in truths])
            for subject, truths in _truths(data.examples("test")).items()
        ]
        for name, data in tested.items()
    }


def _truths(examples: Sequence[Example]) -> dict[str, list[float]]:
    """Return the truth of each scan of a site, by subject."""
    of_scan = {(example.subject, example.scan): example.target for example in examples}
    truths: dict[str, list[float]] = {}
    for (subject, _), target in of_scan.items():
        truths.setdefault(subject, []).append(target)
    return truths


def _guess(train: Sequence[float], target: Target) -> tuple[float, ...]:
    """Return class shares (classification), or the mean."""
    if target.kind == "regression":
        return (float(np.mean(train)),)
    counts = np.bincount(np.asarray(train, dtype=int), minlength=len(target.classes))
    return tuple(float(share) for share in counts / counts.sum())

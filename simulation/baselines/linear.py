"""The linear baseline: fixed features and one regression, which no network should lose to.

Ridge regression (values) and logistic regression (classes, and classes of voxels) on all training
patients, each by its task. Both have one optimum. Ridge regression needs sums over patients alone,
so a federation that adds its sites' sums has the same model; see ``fedmri.tasks.linear.ridge``. The
strength of the penalty is chosen on validation patients. Features are those of the prepared image,
without harmonization and without privacy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from fedmri.data.batches.site_data import Example, SiteData, Split
from fedmri.round import Batch
from fedmri.simulation.baselines.features import Array, image_features
from fedmri.tasks.task import Case, Reading, Task, patient_cases

STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4)
"""Penalties that are tried, in units of one example: from weak to strong."""
USUAL = 100.0
"""Penalty where no patient validates."""

Read = Callable[[Batch], Array]
"""From a batch of one example to what the regression reads of it."""


@dataclass(frozen=True)
class Rows:
    """Examples of some sites: their features, truths, and weights that give each patient one."""

    examples: tuple[Example, ...]
    features: Array
    truths: Array
    weights: Array


def linear_cases(
    trained: Sequence[SiteData], tested: Mapping[str, SiteData], task: Task
) -> dict[str, list[Case]]:
    """Return the linear baseline's test cases by site; empty where there is nothing to learn.

    It reads covariates too, where the plan declares some.

    Args:
        trained: Data of the sites whose training and validation patients are used.
        tested: Data of the sites whose test patients are scored.
        task: What is predicted.
    """
    if task.label_map is not None:
        from fedmri.simulation.baselines.linear_masks import mask_cases  # scikit-learn is slow

        return mask_cases(trained, tested, task)
    return _fitted(trained, tested, task, _of_both)


def table_cases(
    trained: Sequence[SiteData], tested: Mapping[str, SiteData], task: Task
) -> dict[str, list[Case]]:
    """Return test cases of the same regression on covariates alone; empty where there are none."""
    firsts = (batch for data in trained for batch in data.eval_batches("train", batch_size=1))
    first = next(firsts, None)
    if task.label_map is not None or first is None or first.covariates is None:
        return {}
    return _fitted(trained, tested, task, _of_table)


def _fitted(
    trained: Sequence[SiteData], tested: Mapping[str, SiteData], task: Task, read: Read
) -> dict[str, list[Case]]:
    train, validation = _rows(trained, "train", read), _rows(trained, "val", read)
    if not train.examples:
        return {}
    centre, scale = _standard(train)
    unit = (train.features - centre) / scale
    fits = {
        strength: predict
        for strength in (STRENGTHS if validation.examples else (USUAL,))
        if (predict := task.linear(unit, train.truths, train.weights, strength)) is not None
    }
    if not fits:
        return {}

    def scored(strength: float, rows: Rows) -> list[Case]:
        if not rows.examples:  # a hospital of one patient has none to test
            return []
        unit = (rows.features - centre) / scale
        return cases_of(rows.examples, fits[strength](unit), task)

    best = _best(fits, lambda strength: task.metrics(scored(strength, validation)), task)
    return {name: scored(best, _rows([data], "test", read)) for name, data in tested.items()}


def _best(
    strengths: Iterable[float], score: Callable[[float], Mapping[str, float]], task: Task
) -> float:
    """Return the penalty with the best primary metric; of equals the strongest."""
    strengths = list(strengths)
    if len(strengths) == 1:
        return strengths[0]
    sign = 1 if task.is_higher_better else -1
    return max(strengths, key=lambda strength: (sign * score(strength)[task.primary], strength))


def _rows(sites: Sequence[SiteData], split: Split, read: Read) -> Rows:
    examples = tuple(example for data in sites for example in data.examples(split))
    features = np.array(
        [read(batch) for data in sites for batch in data.eval_batches(split, batch_size=1)]
    )
    counts: dict[tuple[str, str], int] = {}
    for example in examples:
        patient = example.site, example.subject
        counts[patient] = counts.get(patient, 0) + 1
    weights = np.array([1 / counts[example.site, example.subject] for example in examples])
    return Rows(examples, features, np.array([example.target for example in examples]), weights)


def _of_table(batch: Batch) -> Array:
    """Return the covariates of a batch of one example."""
    return np.zeros(0) if batch.covariates is None else batch.covariates[0].double().numpy()


def _of_both(batch: Batch) -> Array:
    """Return the features of the image of a batch of one example, and its covariates."""
    own = image_features(np.asarray(batch.image[0].numpy(), np.float32))
    return np.concatenate([own, _of_table(batch)])


def _standard(train: Rows) -> tuple[Array, Array]:
    """Return mean and deviation of each feature over training patients."""
    centre = np.average(train.features, axis=0, weights=train.weights)
    variance = np.average((train.features - centre) ** 2, axis=0, weights=train.weights)
    return centre, np.where(variance > 1e-12, np.sqrt(variance), 1.0)


def cases_of(examples: Sequence[Example], predictions: Array, task: Task) -> list[Case]:
    """Return patients' cases from predictions of their examples, read as a network's are."""
    readings: dict[tuple[str, str], list[Reading]] = {}
    pairs = zip(examples, predictions, strict=True)
    for key, group in groupby(pairs, key=lambda pair: (pair[0].site, pair[0].scan)):
        scan = list(group)
        own = [example for example, _ in scan]
        values = torch.from_numpy(np.stack([value for _, value in scan]))
        truth = torch.tensor([example.target for example in own])
        patient = key[0], own[0].subject
        readings.setdefault(patient, []).append(task.read(values, truth, own))
    return patient_cases(task, readings)

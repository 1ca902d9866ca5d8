"""The linear baseline of a segmentation: a logistic regression of single voxels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fedmri.data.batches.site_data import Example, SiteData, Split
from fedmri.simulation.baselines.features import Table, voxel_features
from fedmri.tasks.linear.logistic import logistic
from fedmri.tasks.task import Case, Reading, Task, patient_cases

SEED = 0
"""Of the draw of training voxels; the same in every run."""
N_VOXELS = 200_000
"""Training voxels at most, a half of them labelled where there are as many."""
STRENGTHS = (1.0, 1e3)
"""Penalties that are tried, in units of one voxel."""
THRESHOLDS = tuple(np.arange(0.1, 0.96, 0.05).round(2).tolist())
"""Probabilities at which a label and the background weigh the same."""

USUAL = 0.9
"""Threshold where no patient validates: labelled voxels are drawn more often than they occur."""

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class _Model:
    """A fitted regression and the threshold that goes with it."""

    centre: Table
    scale: Table
    regression: LogisticRegression
    threshold: float = 0.5

    def probabilities(self, features: Table, n_classes: int) -> Table:
        """Return the probability of background and each class, shape ``(n, 1 + K)``."""
        found = np.zeros((len(features), 1 + n_classes), np.float32)
        unit = (features - self.centre) / self.scale
        found[:, self.regression.classes_] = self.regression.predict_proba(unit)
        return found

    def shares(self, probabilities: Table) -> Table:
        """Return the probabilities under the prior that the threshold stands for."""
        odds = np.full(probabilities.shape[1], (1 - self.threshold) / self.threshold, np.float32)
        odds[0] = 1
        weighted: Table = probabilities * odds
        return np.asarray(weighted / weighted.sum(axis=1, keepdims=True), np.float32)


def mask_cases(
    trained: Sequence[SiteData], tested: Mapping[str, SiteData], task: Task
) -> dict[str, list[Case]]:
    """Return the linear baseline's test cases by site; empty where no labelled voxel trains.

    Training voxels are drawn by a fixed seed, the same number of each image, and half of them
    labelled. Penalty and threshold are those of the best mean Dice over validation patients.

    Args:
        trained: Data of the sites whose training and validation patients are used.
        tested: Data of the sites whose test patients are scored.
        task: What is predicted.
    """
    features, labels = _drawn(trained)
    if len(np.unique(labels)) < 2:
        return {}
    model = _chosen(_fits(features, labels), trained, task.n_outputs - 1)
    return {name: _site_cases(model, data, task) for name, data in tested.items()}


def _drawn(sites: Sequence[SiteData]) -> tuple[Table, Labels]:
    """Return features and labels of the training voxels."""
    stream = np.random.default_rng(SEED)
    n_images = max(1, sum(len(data.examples("train")) for data in sites))
    n_each = max(2, N_VOXELS // n_images)
    tables, labels = list[Table](), list[Labels]()
    for _, image, truth in _images(sites, "train"):
        found = truth.numpy().ravel()
        picks = [_some(found > 0, n_each // 2, stream), _some(found == 0, n_each // 2, stream)]
        rows = np.concatenate(picks)
        tables.append(voxel_features(image)[rows])
        labels.append(found[rows])
    if not tables:
        return np.empty((0, 1), np.float32), np.empty(0, np.int64)
    return np.concatenate(tables), np.concatenate(labels)


def _some(is_wanted: NDArray[np.bool_], n_most: int, stream: np.random.Generator) -> Labels:
    places = np.flatnonzero(is_wanted)
    return stream.permutation(places)[:n_most]


def _fits(features: Table, labels: Labels) -> list[_Model]:
    centre, deviation = features.mean(axis=0), features.std(axis=0)
    scale = np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
    unit = (features - centre) / scale
    return [_Model(centre, scale, logistic(unit, labels, strength)) for strength in STRENGTHS]


def _chosen(models: Sequence[_Model], sites: Sequence[SiteData], n_classes: int) -> _Model:
    """Return the model and threshold with the best mean Dice over validation patients."""
    candidates = [
        _Model(model.centre, model.scale, model.regression, threshold)
        for model in models
        for threshold in THRESHOLDS
    ]
    counts: dict[tuple[str, str], NDArray[np.float64]] = {}
    for example, image, truth in _images(sites, "val"):
        found, features = truth.numpy().ravel(), voxel_features(image)
        given = {id(one.regression): one.probabilities(features, n_classes) for one in models}
        rows = [
            _overlap(one.shares(given[id(one.regression)]).argmax(axis=1), found)
            for one in candidates
        ]
        patient = example.site, example.subject
        counts[patient] = counts.get(patient, np.zeros(())) + np.array(rows)
    if not counts:
        return candidates[THRESHOLDS.index(USUAL)]
    both, either = np.moveaxis(np.stack(list(counts.values())), -1, 0)
    dice = np.where(either > 0, 2 * both / np.maximum(either, 1), 1).mean(axis=0)
    return candidates[int(dice.argmax())]


def _overlap(labels: Labels, truth: Labels) -> tuple[int, int]:
    """Return how many voxels have one and the same label, and how many labels there are."""
    is_label = truth > 0
    return int((labels[is_label] == truth[is_label]).sum()), int(
        (labels > 0).sum() + is_label.sum()
    )


def _site_cases(model: _Model, data: SiteData, task: Task) -> list[Case]:
    readings: dict[tuple[str, str], list[Reading]] = {}
    for key, group in groupby(_images([data], "test"), key=lambda row: (row[0].site, row[0].scan)):
        scan = list(group)
        predicted = torch.stack([_shares(model, image, task) for _, image, _ in scan])
        truth = torch.stack([truth for _, _, truth in scan])
        examples = [example for example, _, _ in scan]
        patient = key[0], examples[0].subject
        readings.setdefault(patient, []).append(task.read(predicted, truth, examples))
    return patient_cases(task, readings)


def _shares(model: _Model, image: NDArray[np.float32], task: Task) -> torch.Tensor:
    """Return the shares of an image's voxels, shape ``(1 + K, *shape)``."""
    given = model.probabilities(voxel_features(image), task.n_outputs - 1)
    return torch.from_numpy(model.shares(given).T.reshape(-1, *image.shape[1:]).copy())


def _images(
    sites: Sequence[SiteData], split: Split
) -> Iterator[tuple[Example, NDArray[np.float32], torch.Tensor]]:
    for data in sites:
        examples = iter(data.examples(split))
        for batch in data.eval_batches(split, batch_size=1):
            yield next(examples), batch.image[0].numpy(), batch.target[0]

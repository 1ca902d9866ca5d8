"""Classification: one class for each patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from fedmri.data.batches.site_data import Example
from fedmri.round import Target
from fedmri.training.losses import Loss, balanced_weights, class_loss, loss_name
from fedmri.training.settings import TaskConfig
from fedmri.training.task import MOST_LOSS, Case, Reading

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Indices = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Classification:
    """Predict the class of a patient; examples of one patient vote.

    Attributes:
        target: Column and its classes.
        config: Loss and vote.
        class_weights: Of ``weighted_ce``, from a site's own counts; empty weighs all the same.
    """

    target: Target
    config: TaskConfig
    class_weights: tuple[float, ...] = ()
    primary: str = "balanced_accuracy"
    is_higher_better: bool = True

    def at_site(self, examples: Sequence[Example]) -> Classification:
        """Return the task with the class weights of a site, where its loss has any."""
        if loss_name("classification", self.config) != "weighted_ce" or not examples:
            return self
        indices = [int(example.target) for example in examples]
        counts = np.bincount(indices, minlength=len(self.target.classes))
        return replace(self, class_weights=balanced_weights([int(count) for count in counts]))

    @cached_property
    def _loss(self) -> Loss:
        name = loss_name("classification", self.config)
        return class_loss(name, self.config, self.class_weights)

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of logits ``(B, K)``; targets are ``(B,)``, or mixed ``(B, K)``."""
        return self._loss(outputs.float(), target)

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return class probabilities, shape ``(B, K)``."""
        return outputs.double().softmax(1)

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the probabilities of a scan's examples."""
        rows = tuple(tuple(row) for row in predictions.tolist())
        return Reading(len(rows), float(truth[0]), rows)

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's mean probabilities and voted class (``predicted``)."""
        rows = np.array([row for reading in readings for row in reading.predictions])
        mean = rows.mean(axis=0)
        vote = majority(rows) if self.config.vote == "majority" else int(mean.argmax())
        truth = readings[0].truth
        scores = {"predicted": float(vote), "is_correct": float(vote == truth)}
        return Case(site, subject, len(rows), truth, tuple(mean.tolist()), scores)

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Shares lie between 0 and 1, the Brier score between 0 and 2."""
        names = ("balanced_accuracy", "accuracy", "macro_f1", "auc")
        return {**dict.fromkeys(names, (0.0, 1.0)), "brier": (0.0, 2.0), "loss": (0.0, MOST_LOSS)}

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results whose probabilities are some; else all of it is on a wrong class."""
        return [self._within(case) for case in cases]

    def _within(self, case: Case) -> Case:
        if all(map(math.isfinite, case.prediction)):
            return case
        n_classes = len(self.target.classes)
        wrong = (int(case.truth) + 1) % n_classes
        certain = tuple(float(k == wrong) for k in range(n_classes))
        return replace(case, prediction=certain, scores={"predicted": wrong, "is_correct": 0.0})

    def caption(self, reading: Reading) -> str:
        """Return the class, and the predicted class with its probability."""
        mean = np.array(reading.predictions).mean(axis=0)
        names, best = self.target.classes, int(mean.argmax())
        return f"{names[int(reading.truth)]}, predicted {names[best]} ({mean[best]:.2f})"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return accuracies, macro F1, AUC and Brier score over patients; NaN where undefined.

        ``balanced_accuracy`` is the mean recall of the classes that are there; ``auc`` the mean
        one-versus-rest area over classes that both are and are not there; ``brier`` the mean
        squared distance of the probabilities from the class, summed over classes (0 to 2).
        """
        if not cases:
            names = ("balanced_accuracy", "accuracy", "macro_f1", "auc", "brier")
            return dict.fromkeys(names, math.nan)
        truth = np.array([int(case.truth) for case in cases])
        predicted = np.array([int(case.scores["predicted"]) for case in cases])
        probabilities = np.array([case.prediction for case in cases])
        wanted = np.eye(len(self.target.classes))[truth]
        return {
            "balanced_accuracy": balanced_accuracy(truth, predicted, len(self.target.classes)),
            "accuracy": float((truth == predicted).mean()),
            "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0.0)),
            "auc": macro_auc(wanted, probabilities),
            "brier": float(((probabilities - wanted) ** 2).sum(axis=1).mean()),
        }


def majority(probabilities: Array) -> int:
    """Return the class that most examples are assigned to; a tie goes to the higher mean.

    Args:
        probabilities: Of each example and class, shape ``(n, K)``.
    """
    votes = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    mean = probabilities.mean(axis=0)
    return int(np.where(votes == votes.max(), mean, -np.inf).argmax())


def balanced_accuracy(truth: Indices, predicted: Indices, n_classes: int) -> float:
    """Return the mean recall of the classes that occur in ``truth``."""
    table = confusion_matrix(truth, predicted, labels=range(n_classes))
    counts = table.sum(axis=1)
    is_there = counts > 0
    return float((table.diagonal()[is_there] / counts[is_there]).mean())


def macro_auc(wanted: Array, probabilities: Array) -> float:
    """Return the mean one-versus-rest ROC area; NaN where no class both is and is not there.

    Args:
        wanted: 1 for the class of each patient and 0 elsewhere, shape ``(n, K)``.
        probabilities: Shape ``(n, K)``.
    """
    areas = [
        float(roc_auc_score(is_class, probability))
        for is_class, probability in zip(wanted.T, probabilities.T, strict=True)
        if 0 < is_class.mean() < 1
    ]
    return float(np.mean(areas)) if areas else math.nan

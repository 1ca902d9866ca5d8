"""Classification: one class for each patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fedmri.claims import Claim, Claims
from fedmri.data.batches.site_data import Example
from fedmri.data.scans import Finding, Scan
from fedmri.data.target import no_truth
from fedmri.errors import require
from fedmri.round import Answer, Truth
from fedmri.tasks.loss_names import loss_name
from fedmri.tasks.task import MOST_LOSS, Array, Case, Predict, Reading, frozen_lists, single

if TYPE_CHECKING:
    import torch

    from fedmri.reports.statistics.metrics import Metric
    from fedmri.tasks.losses import Loss

Indices = NDArray[np.int64]
NAMES = ("balanced_accuracy", "accuracy", "macro_f1", "auc", "brier")


@dataclass(frozen=True)
class Classification:
    """Predict the class of a patient; examples of one patient vote.

    Attributes:
        name: Column of the subject table.
        classes: Its values, in the order of the network's outputs.
        loss: ``ce`` (which ``auto`` is), ``weighted_ce`` (by the site's own counts of training
            examples), or ``focal``.
        label_smoothing: For cross entropy.
        focal_gamma: Focusing exponent of the focal loss.
        vote: How the examples of a patient become one class. ``mean`` averages their probabilities.
            ``majority`` counts their classes, and a tie goes to the higher mean probability.
    """

    name: str
    classes: Sequence[str]
    loss: str = "auto"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    vote: Literal["mean", "majority"] = "mean"

    title: ClassVar[str] = "classification"
    activation: ClassVar[str] = "softmax over channels"
    source: ClassVar[str] = "Lin et al. 2017, arXiv:1708.02002 (focal loss)"
    example: ClassVar[Mapping[str, Any]] = {"name": "diagnosis", "classes": ("tumour", "healthy")}
    losses: ClassVar[tuple[str, ...]] = ("ce", "weighted_ce", "focal")
    answer: ClassVar[Answer] = "image"
    primary: ClassVar[str] = "balanced_accuracy"
    is_higher_better: ClassVar[bool] = True
    label_map: ClassVar[None] = None
    are_exclusive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        frozen_lists(self, "classes")
        require(bool(self.name), "target.name", self.name, "a column")
        classes = self.classes
        require(len(classes) >= 2, "target.classes", classes, "2 or more class names")
        require(len(set(classes)) == len(classes), "target.classes", classes, "each class once")
        smoothing, gamma = self.label_smoothing, self.focal_gamma
        require(0 <= smoothing < 1, "target.label_smoothing", smoothing, "0 to below 1")
        require(gamma >= 0, "target.focal_gamma", gamma, "0 or more")
        loss_name(self.loss, self.losses, self.title)

    @property
    def claims(self) -> Claims:
        """A loss that is weighted by a site's classes counts its patients."""
        return frozenset() if self._is_weighted else frozenset({Claim.PATIENTS_APART})

    @property
    def _is_weighted(self) -> bool:
        return loss_name(self.loss, self.losses, self.title) == "weighted_ce"

    @property
    def n_outputs(self) -> int:
        """A channel a class."""
        return len(self.classes)

    @property
    def n_groups(self) -> int:
        """Its classes."""
        return len(self.classes)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's channels."""
        return tuple(self.classes)

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.name,)

    @property
    def learned(self) -> str:
        """Column and classes."""
        return f"{self.title} of {self.name} ({', '.join(self.classes)})"

    @property
    def reads(self) -> str:
        """The one column."""
        return f"column {self.name} of the subject table"

    def truth(self, scan: Scan) -> Truth:
        """Return the index of the class; raise D16 where it is none."""
        text = scan.columns.get(self.name, "")
        if text not in self.classes:
            raise no_truth(f"{self.name} {text!r}", f"one of {', '.join(self.classes)}")
        return float(self.classes.index(text))

    def findings(self, scans: Sequence[Scan]) -> list[Finding]:
        """Return which scans have no declared class."""
        from fedmri.data.checks.target_values import without_class

        return [f for scan in scans for f in without_class(scan, self.name, self.classes)]

    def site_findings(
        self, site: str, scans: Sequence[Scan], maps: Sequence[frozenset[int]]
    ) -> list[Finding]:
        """Return which classes a site lacks (D23)."""
        there = {scan.columns[self.name] for scan in scans}
        return [
            Finding("D23", f"no scan of class {name}", site, is_excluded=False)
            for name in self.classes
            if name not in there
        ]

    def stratum(self, scan: Scan) -> str:
        """Return the class."""
        return scan.columns.get(self.name, "")

    def batch_target(self, truths: Sequence[Truth]) -> torch.Tensor:
        """Return class indices, shape ``(B,)``, int64."""
        import torch

        return torch.tensor([single(truth) for truth in truths]).to(torch.int64)

    def at_site(self, examples: Sequence[Example]) -> Classification:
        """Return the task with the class weights of a site, where its loss has any."""
        from fedmri.tasks.losses import balanced_weights

        if not self._is_weighted or not examples:
            return self
        indices = [int(single(example.target)) for example in examples]
        counts = np.bincount(indices, minlength=len(self.classes)).tolist()
        settings = {field.name: getattr(self, field.name) for field in fields(Classification)}
        return _Weighted(**settings, class_weights=balanced_weights(counts))

    @property
    def _class_weights(self) -> tuple[float, ...]:
        return ()

    @cached_property
    def _loss(self) -> Loss:
        from fedmri.tasks.losses import class_loss

        return class_loss(
            loss_name(self.loss, self.losses, self.title),
            smoothing=self.label_smoothing,
            gamma=self.focal_gamma,
            weights=self._class_weights,
        )

    def mean_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
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
        vote = majority(rows) if self.vote == "majority" else int(mean.argmax())
        truth = readings[0].truth
        scores = {"predicted": float(vote), "is_correct": float(vote == truth)}
        return Case(site, subject, len(rows), truth, tuple(mean.tolist()), scores)

    @property
    def reported(self) -> frozenset[str]:
        """All of them."""
        return frozenset(NAMES)

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Shares lie between 0 and 1, the Brier score between 0 and 2."""
        return {**dict.fromkeys(NAMES, (0.0, 1.0)), "brier": (0.0, 2.0), "loss": (0.0, MOST_LOSS)}

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results whose probabilities are some; else all of it is on a wrong class."""
        return [self._within(case) for case in cases]

    def _within(self, case: Case) -> Case:
        if all(map(math.isfinite, case.prediction)):
            return case
        n_classes = len(self.classes)
        wrong = (int(single(case.truth)) + 1) % n_classes
        certain = tuple(float(k == wrong) for k in range(n_classes))
        return replace(case, prediction=certain, scores={"predicted": wrong, "is_correct": 0.0})

    def caption(self, reading: Reading) -> str:
        """Return the class, and the predicted class with its probability."""
        mean = np.array(reading.predictions).mean(axis=0)
        names, best = self.classes, int(mean.argmax())
        return f"{names[int(single(reading.truth))]}, predicted {names[best]} ({mean[best]:.2f})"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return accuracies, macro F1, AUC and Brier score over patients; NaN where undefined.

        ``balanced_accuracy`` is the mean recall of the classes that are there; ``auc`` the mean
        one-versus-rest area over classes that both are and are not there; ``brier`` the mean
        squared distance of the probabilities from the class, summed over classes (0 to 2).
        """
        if not cases:
            return dict.fromkeys(NAMES, math.nan)
        truth = np.array([int(single(case.truth)) for case in cases])
        predicted = np.array([int(case.scores["predicted"]) for case in cases])
        probabilities = np.array([case.prediction for case in cases])
        wanted = np.eye(len(self.classes))[truth]
        hits, n_true, n_called = _counts(truth, predicted, len(self.classes))
        is_there, n_both = n_true > 0, n_true + n_called
        return {
            "balanced_accuracy": float((hits[is_there] / n_true[is_there]).mean()),
            "accuracy": float((truth == predicted).mean()),
            "macro_f1": float((2 * hits[n_both > 0] / n_both[n_both > 0]).mean()),
            "auc": macro_auc(wanted, probabilities),
            "brier": float(((probabilities - wanted) ** 2).sum(axis=1).mean()),
        }

    @property
    def ranked(self) -> tuple[str, ...]:
        """The second of two classes, else each class against all others."""
        return tuple(self.classes[1:] if len(self.classes) == 2 else self.classes)

    def ranks(self, cases: Sequence[Case]) -> list[tuple[Array, NDArray[np.bool_]]]:
        """Return the probability of each of these classes, and whose class it is."""
        probabilities = np.array([case.prediction for case in cases]).reshape(-1, self.n_outputs)
        truth = np.array([int(single(case.truth)) for case in cases], dtype=np.int64)
        places = [self.classes.index(name) for name in self.ranked]
        return [(probabilities[:, place], truth == place) for place in places]

    def measures(self) -> tuple[Metric, ...]:
        """Return the metrics as a report shows them."""
        from functools import partial

        from fedmri.reports.statistics import bounds, influence, weighted
        from fedmri.reports.statistics.metrics import DOWN, UP, Metric

        brier = partial(bounds.bounded_mean, low=0.0, high=2.0, failure=2.0, unseen=0.05)
        return (
            Metric(
                "accuracy", "accuracy", 0, 1, UP, bounds.proportion, weighted.accuracy,
                influence.accuracy, is_patient_mean=True, is_discrete=True,
            ),
            Metric(
                "balanced_accuracy", "balanced accuracy", 0, 1, UP, bounds.recall_mean,
                weighted.balanced_accuracy, influence.recalls, is_discrete=True,
            ),
            Metric(
                "macro_f1", "macro F1", 0, 1, UP, bounds.f1_mean, weighted.macro_f1,
                influence.f1_scores, is_discrete=True,
            ),
            Metric(
                "auc", "AUC", 0, 1, UP, bounds.area_mean, weighted.roc_auc, influence.areas,
                is_by_class=True,
            ),
            Metric(
                "brier", "Brier score", 0, 2, DOWN, brier, weighted.brier, influence.brier,
                is_patient_mean=True,
            ),
        )  # fmt: skip

    def guess(self, train: Sequence[Truth]) -> tuple[float, ...]:
        """Return class shares."""
        classes = [int(single(truth)) for truth in train]
        counts = np.bincount(classes, minlength=len(self.classes))
        return tuple(float(share) for share in counts / counts.sum())

    def linear(self, features: Array, truths: Array, weights: Array, strength: float) -> Predict:
        """Return a logistic regression in which each class weighs the same."""
        from fedmri.tasks.linear.logistic import balanced, logistic

        classes, n_classes = truths.astype(int), len(self.classes)
        there = np.unique(classes)
        if len(there) == 1:
            return lambda rows: np.tile(np.eye(n_classes)[there[0]], (len(rows), 1))
        model = logistic(features, classes, strength, balanced(weights, classes))

        def predict(rows: Array) -> Array:
            probabilities = np.zeros((len(rows), n_classes))
            probabilities[:, there] = model.predict_proba(rows)
            return probabilities

        return predict

    @property
    def per_code(self) -> float:
        """Make probabilities close to what least squares fits: in the middle, ``p = 1/K + z/K``."""
        n_classes = len(self.classes)
        return n_classes * math.sqrt(1 - 1 / n_classes)

    def coded(self, truths: Array) -> Array:
        """Return one for the class minus the mean over classes, brought to length 1."""
        n_classes = len(self.classes)
        ones = np.eye(n_classes)[truths.astype(int).ravel()]
        return np.asarray((ones - 1 / n_classes) / math.sqrt(1 - 1 / n_classes))

    def answers(self, prediction: Sequence[float], case: Case | None) -> dict[str, str]:
        """Return the class, voted or most probable, and the probability of each."""
        best = int(np.argmax(prediction)) if case is None else int(case.scores["predicted"])
        shares = zip(self.classes, prediction, strict=True)
        return {
            self.name: self.classes[best],
            **{f"probability_{name}": repr(float(share)) for name, share in shares},
        }

    def described(self) -> dict[str, dict[str, str]]:
        """Return what the column means."""
        return {self.name: {"Description": f"predicted {self.name}"}}


@dataclass(frozen=True)
class _Weighted(Classification):
    """A classification at a site whose classes were counted."""

    class_weights: tuple[float, ...] = ()

    @property
    def _class_weights(self) -> tuple[float, ...]:
        return self.class_weights


def majority(probabilities: Array) -> int:
    """Return the class that most examples are assigned to; a tie goes to the higher mean.

    Args:
        probabilities: Of each example and class, shape ``(n, K)``.
    """
    votes = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    mean = probabilities.mean(axis=0)
    return int(np.where(votes == votes.max(), mean, -np.inf).argmax())


def _counts(
    truth: Indices, predicted: Indices, n_classes: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return how often each class was met, was true and was called, each of shape ``(K,)``."""
    met = truth[truth == predicted]
    hits, n_true = np.bincount(met, minlength=n_classes), np.bincount(truth, minlength=n_classes)
    return hits, n_true, np.bincount(predicted, minlength=n_classes)


def macro_auc(wanted: Array, probabilities: Array) -> float:
    """Return the mean one-versus-rest ROC area; NaN where no class both is and is not there.

    Args:
        wanted: 1 for the class of each patient and 0 elsewhere, shape ``(n, K)``.
        probabilities: Shape ``(n, K)``.
    """
    areas = [
        _area(probability, is_class == 1)
        for is_class, probability in zip(wanted.T, probabilities.T, strict=True)
        if 0 < is_class.mean() < 1
    ]
    return float(np.mean(areas)) if areas else math.nan


def _area(score: Array, is_positive: NDArray[np.bool_]) -> float:
    """Return the area under a ROC curve, by ranks: ties count one half.

    Source:
        Mann and Whitney 1947, doi:10.1214/aoms/1177730491.
    """
    if not np.isfinite(score).all():
        return math.nan
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n = int(is_positive.sum())
    won = float(ranks[is_positive].sum()) - n * (n + 1) / 2
    return won / (n * (len(score) - n))

"""Multi-label classification: several findings for each patient, each there, absent or unknown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedmri.claims import Claim, Claims
from fedmri.data.batches.site_data import Example
from fedmri.data.scans import Finding, Scan, about
from fedmri.data.target import no_truth
from fedmri.errors import require
from fedmri.round import Answer, Truth
from fedmri.tasks.cells import ABSENT, PRESENT, Words
from fedmri.tasks.loss_names import loss_name
from fedmri.tasks.task import MOST_LOSS, Array, Case, Predict, Reading, frozen_lists

if TYPE_CHECKING:
    import torch

    from fedmri.reports.statistics.metrics import Metric
    from fedmri.tasks.losses import Loss

NAMES = ("label_auc", "label_balanced_accuracy", "label_brier")


@dataclass(frozen=True)
class MultiLabel:
    """Predict which of several findings a patient has.

    An empty cell, or one such as ``n/a``, says that a finding is not known of a patient. It counts
    neither as there nor as absent: it is left out of the loss and of every metric.

    Attributes:
        name: What the findings are called. With ``separator``, the column that lists them.
        classes: The findings, in the order of the network's outputs. Without ``separator``, each is
            a column of the subject table.
        separator: Text between the findings that a patient has, in one column. Empty: each finding
            has a column of its own.
        nothing: What the list says of a patient who has none of them.
        present: Words of a column that say that the finding is there, in small letters.
        absent: Words that say that it is absent.
        loss: ``bce`` (which ``auto`` is), binary cross entropy, or ``focal``.
        focal_gamma: Focusing exponent of the focal loss.
    """

    name: str
    classes: Sequence[str]
    separator: str = ""
    nothing: str = "none"
    present: Sequence[str] = PRESENT
    absent: Sequence[str] = ABSENT
    loss: str = "auto"
    focal_gamma: float = 2.0

    title: ClassVar[str] = "multi-label classification"
    activation: ClassVar[str] = "sigmoid of each channel"
    source: ClassVar[str] = "Lin et al. 2017, arXiv:1708.02002 (focal loss)"
    example: ClassVar[Mapping[str, Any]] = {"name": "findings", "classes": ("edema", "bleeding")}
    losses: ClassVar[tuple[str, ...]] = ("bce", "focal")
    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    answer: ClassVar[Answer] = "image"
    n_groups: ClassVar[int] = 1
    primary: ClassVar[str] = "label_auc"
    is_higher_better: ClassVar[bool] = True
    label_map: ClassVar[None] = None
    are_exclusive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        frozen_lists(self, "classes", "present", "absent")
        require(bool(self.name), "target.name", self.name, "a name")
        classes, gamma = self.classes, self.focal_gamma
        require(len(classes) >= 1, "target.classes", classes, "1 or more findings")
        require(len(set(classes)) == len(classes), "target.classes", classes, "each finding once")
        require(gamma >= 0, "target.focal_gamma", gamma, "0 or more")
        loss_name(self.loss, self.losses, self.title)
        _ = self._words  # which looks at the words

    @cached_property
    def _words(self) -> Words:
        return Words(tuple(self.present), tuple(self.absent))

    @property
    def n_outputs(self) -> int:
        """A channel a finding."""
        return len(self.classes)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's channels."""
        return tuple(self.classes)

    @property
    def columns(self) -> tuple[str, ...]:
        """The column of the list, or those of the findings."""
        return (self.name,) if self.separator else tuple(self.classes)

    @property
    def learned(self) -> str:
        """Findings."""
        return f"{self.title} of {self.name} ({', '.join(self.classes)})"

    @property
    def reads(self) -> str:
        """The columns."""
        return f"columns {', '.join(self.columns)} of the subject table"

    def truth(self, scan: Scan) -> Truth:
        """Return 1, 0 or NaN for each finding; raise D16 where none is known."""
        values, faults = self._read(scan)
        if faults:
            raise no_truth(faults[0], "findings that are there, absent or unknown")
        return values

    def _read(self, scan: Scan) -> tuple[tuple[float, ...], list[str]]:
        """Return the findings of a scan, and what is wrong with its cells."""
        faults = [f"no column {name!r}" for name in self.columns if name not in scan.columns]
        if faults:
            return (), faults
        values, faults = self._listed(scan) if self.separator else self._by_column(scan)
        if not faults and all(map(math.isnan, values)):
            faults = ["none of the findings is known"]
        return values, faults

    def _by_column(self, scan: Scan) -> tuple[tuple[float, ...], list[str]]:
        cells = {name: scan.columns[name] for name in self.classes}
        values = {name: self._words.value(text) for name, text in cells.items()}
        faults = [
            f"{name} is {cells[name]!r}, not one of {self._words.shown}"
            for name, value in values.items()
            if value is None
        ]
        return tuple(math.nan if v is None else v for v in values.values()), faults

    def _listed(self, scan: Scan) -> tuple[tuple[float, ...], list[str]]:
        from fedmri.data.checks.target_values import is_missing

        text = scan.columns[self.name].strip()
        if text.casefold() == self.nothing.casefold():
            return (0.0,) * len(self.classes), []
        if is_missing(text):
            return (math.nan,) * len(self.classes), []
        there = [part.strip() for part in text.split(self.separator) if part.strip()]
        strays = [part for part in there if part not in self.classes]
        faults = [f"{self.name} lists {part!r}, not one of {', '.join(self.classes)}"
                  for part in strays]  # fmt: skip
        return tuple(float(name in there) for name in self.classes), faults

    def findings(self, scans: Sequence[Scan]) -> list[Finding]:
        """Return which scans have no known finding, or a word that is none."""
        return [about(scan, "D16", fault) for scan in scans for fault in self._read(scan)[1]]

    def site_findings(
        self, site: str, scans: Sequence[Scan], maps: Sequence[frozenset[int]]
    ) -> list[Finding]:
        """Return which findings never vary at a site (D23, D77), or are seldom known (D78)."""
        table = np.array([self._read(scan)[0] for scan in scans])
        return [
            Finding(code, reason, site, is_excluded=False)
            for name, column in zip(self.classes, table.T, strict=True)
            for code, reason in _oddities(name, column)
        ]

    def stratum(self, scan: Scan) -> str:
        """Return which findings are there, absent and unknown."""
        return "".join("?" if math.isnan(v) else str(int(v)) for v in self._read(scan)[0])

    def batch_target(self, truths: Sequence[Truth]) -> torch.Tensor:
        """Return 1, 0 and NaN for each finding, shape ``(B, K)``, float32."""
        import torch

        return torch.tensor([self._of(truth) for truth in truths]).to(torch.float32)

    def _of(self, truth: Truth) -> tuple[float, ...]:
        """Return a truth as findings; that of a scan without a table is unknown."""
        return truth if isinstance(truth, tuple) else (math.nan,) * len(self.classes)

    def at_site(self, examples: Sequence[Example]) -> MultiLabel:
        """Return the task itself: nothing is counted."""
        return self

    @cached_property
    def _loss(self) -> Loss:
        from fedmri.tasks.losses import label_loss

        name = loss_name(self.loss, self.losses, self.title)
        return label_loss(self.focal_gamma if name == "focal" else 0.0)

    def mean_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over examples of their mean over known findings, ``(B, K)`` each."""
        return self._loss(outputs.float(), target)

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the probability of each finding, shape ``(B, K)``."""
        return outputs.double().sigmoid()

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the probabilities of a scan's examples."""
        rows = tuple(tuple(row) for row in predictions.tolist())
        return Reading(len(rows), self._of(examples[0].target), rows)

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's mean probabilities; a finding is that of the first scan that knows."""
        rows = np.array([row for reading in readings for row in reading.predictions])
        known = [self._of(reading.truth) for reading in readings]
        truth = tuple(next((v for v in of if not math.isnan(v)), math.nan) for of in zip(*known))  # noqa: B905  # rows of one task
        mean = tuple(rows.mean(axis=0).tolist())
        return Case(site, subject, len(rows), truth, mean, _scores(truth, mean))

    @property
    def reported(self) -> frozenset[str]:
        """Means over findings, and the area of each."""
        return frozenset({*NAMES, *self._own})

    @property
    def _own(self) -> tuple[str, ...]:
        """Names of the areas of single findings."""
        names = tuple(f"label_auc_{name}" for name in self.classes)
        return names if len(names) > 1 else ()

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """All lie between 0 and 1."""
        return {**dict.fromkeys(self.reported, (0.0, 1.0)), "loss": (0.0, MOST_LOSS)}

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results whose probabilities are some; else all of them are wrong."""
        return [self._within(case) for case in cases]

    def _within(self, case: Case) -> Case:
        if all(map(math.isfinite, case.prediction)):
            return case
        truth = self._of(case.truth)
        wrong = tuple(0.5 if math.isnan(value) else 1 - value for value in truth)
        return replace(case, prediction=wrong, scores=_scores(truth, wrong))

    def caption(self, reading: Reading) -> str:
        """Return the findings that are there, and the probability of each."""
        mean = np.array(reading.predictions).mean(axis=0)
        truth = zip(self.classes, self._of(reading.truth), strict=True)
        there = ", ".join(name for name, value in truth if value == 1) or "none known"
        shares = zip(self.classes, mean, strict=True)
        return f"{there}; predicted {', '.join(f'{name} {share:.2f}' for name, share in shares)}"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return means over findings, each over the patients of whom it is known.

        ``label_auc`` is the mean ROC area of findings that some patients have and others have not;
        ``label_balanced_accuracy`` the mean of their sensitivities and specificities at a
        probability of one half; ``label_brier`` the mean squared distance of the probabilities.
        """
        from fedmri.reports.statistics.weighted import panel
        from fedmri.tasks.label_scores import areas, recalls

        if not cases:
            return dict.fromkeys((*NAMES, *self._own), math.nan)
        patients = panel(cases)
        of_labels = [part.value for part in areas(patients)]
        own = dict(zip(self._own, of_labels, strict=True)) if self._own else {}
        return {
            "label_auc": _mean(of_labels),
            "label_balanced_accuracy": _mean([part.value for part in recalls(patients)]),
            "label_brier": _mean(patients.scores["label_brier"].tolist()),
            **own,
        }

    @property
    def ranked(self) -> tuple[str, ...]:
        """The findings."""
        return tuple(self.classes)

    def ranks(self, cases: Sequence[Case]) -> list[tuple[Array, NDArray[np.bool_]]]:
        """Return the probability of each finding, and who has it, where that is known."""
        n = len(self.classes)
        probabilities = np.array([case.prediction for case in cases]).reshape(-1, n)
        truth = np.array([self._of(case.truth) for case in cases]).reshape(-1, n)
        known = ~np.isnan(truth)
        return [(probabilities[own, k], truth[own, k] == 1) for k, own in enumerate(known.T)]

    def measures(self) -> tuple[Metric, ...]:
        """Return the metrics as a report shows them."""
        from functools import partial

        from fedmri.reports.statistics import bounds
        from fedmri.reports.statistics.metrics import DOWN, UP, Metric
        from fedmri.tasks import label_scores as of

        brier = partial(bounds.bounded_mean, low=0.0, high=1.0, failure=1.0, unseen=0.05)
        own = (
            Metric(
                name, f"AUC of {self.classes[k]}", 0, 1, UP, bounds.area_mean,
                influence=partial(of.area_of, label=k),
            )
            for k, name in enumerate(self._own)
        )  # fmt: skip
        return (
            Metric(
                "label_auc", "mean AUC of findings", 0, 1, UP, bounds.area_mean,
                of.weighted_areas, of.areas,
            ),
            Metric(
                "label_balanced_accuracy", "balanced accuracy of findings", 0, 1, UP,
                bounds.recall_mean, of.weighted_recalls, of.recalls,
            ),
            Metric("label_brier", "Brier score of findings", 0, 1, DOWN, brier,
                   is_patient_mean=True),
            *own,
        )  # fmt: skip

    def guess(self, train: Sequence[Truth]) -> tuple[float, ...]:
        """Return the share of patients with each finding, of those of whom it is known."""
        table = np.array([self._of(truth) for truth in train])
        known = ~np.isnan(table)
        shares = np.where(known, table, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return tuple(np.where(known.any(axis=0), shares, 0.5).tolist())

    def linear(self, features: Array, truths: Array, weights: Array, strength: float) -> Predict:
        """Return a logistic regression for each finding, on the patients of whom it is known."""
        from fedmri.tasks.linear.logistic import balanced_binary

        fits = [
            balanced_binary(features[known], column[known].astype(int), strength, weights[known])
            for column in truths.T
            for known in [~np.isnan(column)]
        ]
        return lambda rows: np.stack([fit(rows) for fit in fits], axis=1)

    def answers(self, prediction: Sequence[float], case: Case | None) -> dict[str, str]:
        """Return the findings that are called, and the probability of each."""
        from fedmri.tasks.label_scores import THRESHOLD

        shares = list(zip(self.classes, prediction, strict=True))
        there = [name for name, share in shares if share >= THRESHOLD]
        listed = (self.separator or ";").join(there) or self.nothing
        return {
            self.name: listed,
            **{f"probability_{name}": repr(float(share)) for name, share in shares},
        }

    def described(self) -> dict[str, dict[str, str]]:
        """Return what the columns mean."""
        each = {f"probability_{n}": {"Description": f"probability of {n}"} for n in self.classes}
        return {self.name: {"Description": "findings of a probability of 0.5 or more"}, **each}


def _oddities(name: str, column: Array) -> Iterator[tuple[str, str]]:
    """Yield what is odd about a finding at a site."""
    known = column[~np.isnan(column)]
    if not (known == 1).any():
        yield "D23", f"no scan has {name}; it is known of {len(known)} of {len(column)} scans"
    elif (known == 1).all():
        yield "D77", f"all {len(known)} scans of which it is known have {name}"
    if len(known) < len(column):
        yield "D78", f"{name} is not known of {len(column) - len(known)} of {len(column)} scans"


def _scores(truth: Sequence[float], prediction: Sequence[float]) -> dict[str, float]:
    """Return a patient's own score over the findings that are known."""
    pairs = zip(truth, prediction, strict=True)
    return {"label_brier": _mean([(p - t) ** 2 for t, p in pairs])}


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is known."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan

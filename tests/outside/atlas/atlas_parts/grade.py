"""Grade: a grade of disease, of which a near miss is better than a far one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedmri.claims import Claim, Claims
from fedmri.data.batches.site_data import Example
from fedmri.data.scans import Finding, Scan, about
from fedmri.data.target import no_truth
from fedmri.errors import require
from fedmri.round import Answer, Truth
from fedmri.tasks.task import Array, Case, Reading, single

if TYPE_CHECKING:
    import torch

    from fedmri.reports.statistics.metrics import Metric


@dataclass(frozen=True)
class Grade:
    """Predict a grade by the odds of being above each of the lower ones.

    Attributes:
        name: Column of the subject table.
        grades: Its values, from the lowest.
    """

    name: str
    grades: tuple[str, ...]

    title: ClassVar[str] = "grading"
    activation: ClassVar[str] = "sigmoid of each channel: above the grade"
    source: ClassVar[str] = "Cao, Mirjalili and Raschka 2020, doi:10.1016/j.patrec.2020.11.008"
    example: ClassVar[Mapping[str, Any]] = {"name": "grade", "grades": ("low", "high")}
    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    answer: ClassVar[Answer] = "image"
    n_groups: ClassVar[int] = 1
    primary: ClassVar[str] = "grades_off"
    is_higher_better: ClassVar[bool] = False
    label_map: ClassVar[None] = None

    def __post_init__(self) -> None:
        require(len(self.grades) > 1, "target.grades", self.grades, "two grades or more")

    @property
    def n_outputs(self) -> int:
        """One for each step up."""
        return len(self.grades) - 1

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's channels."""
        return self.grades[:-1]

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.name,)

    @property
    def learned(self) -> str:
        """Column and grades."""
        return f"{self.title} of {self.name} ({' < '.join(self.grades)})"

    @property
    def reads(self) -> str:
        """The one column."""
        return f"column {self.name} of the subject table"

    def truth(self, scan: Scan) -> Truth:
        """Return the number of the grade."""
        text = scan.columns.get(self.name, "")
        if text not in self.grades:
            raise no_truth(repr(text), f"one of {', '.join(self.grades)}")
        return float(self.grades.index(text))

    def findings(self, scans: Sequence[Scan]) -> list[Finding]:
        """Return which scans have no grade."""
        cells = {scan.key: scan.columns.get(self.name, "") for scan in scans}
        return [
            about(scan, "D16", f"{self.name} is {cells[scan.key]!r}")
            for scan in scans
            if cells[scan.key] not in self.grades
        ]

    def site_findings(
        self, site: str, scans: Sequence[Scan], maps: Sequence[frozenset[int]]
    ) -> list[Finding]:
        """Return nothing."""
        return []

    def stratum(self, scan: Scan) -> str:
        """Return the grade."""
        return scan.columns.get(self.name, "")

    def batch_target(self, truths: Sequence[Truth]) -> torch.Tensor:
        """Return whether each step is below the grade, shape ``(B, K - 1)``."""
        import torch

        steps = torch.arange(self.n_outputs)
        return (torch.tensor([single(truth) for truth in truths])[:, None] > steps).float()

    def at_site(self, examples: Sequence[Example]) -> Grade:
        """Return the task itself."""
        return self

    def mean_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean binary cross entropy of the steps."""
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(outputs.float(), target)

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the probability of each step up."""
        return outputs.double().sigmoid()

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the steps of a scan's examples."""
        rows = tuple(tuple(row) for row in predictions.tolist())
        return Reading(len(rows), single(examples[0].target), rows)

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's mean steps, and how many grades off they are."""
        rows = np.array([row for reading in readings for row in reading.predictions])
        mean, truth = tuple(rows.mean(axis=0).tolist()), single(readings[0].truth)
        scores = {"grades_off": abs(self._called(mean) - truth)}
        return Case(site, subject, len(rows), truth, mean, scores)

    def _called(self, steps: Sequence[float]) -> int:
        return sum(share >= 0.5 for share in steps)

    def caption(self, reading: Reading) -> str:
        """Return the grade and the predicted one."""
        called = self._called(np.mean(reading.predictions, axis=0).tolist())
        return f"{self.grades[int(single(reading.truth))]}, predicted {self.grades[called]}"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return the mean number of grades off."""
        off = [case.scores["grades_off"] for case in cases]
        return {"grades_off": math.fsum(off) / len(off) if off else math.nan}

    def measures(self) -> tuple[Metric, ...]:
        """Return the one metric."""
        from functools import partial

        from fedmri.reports.statistics import bounds
        from fedmri.reports.statistics.metrics import DOWN, Metric

        method = partial(bounds.positive_mean, unseen=0.1)
        return (
            Metric("grades_off", "grades off", 0, math.inf, DOWN, method, is_patient_mean=True),
        )

    @property
    def reported(self) -> frozenset[str]:
        """The one metric."""
        return frozenset({"grades_off"})

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """At most all grades."""
        return {"grades_off": (0.0, float(self.n_outputs)), "loss": (0.0, 20.0)}

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results of which one that is no number is as far off as can be."""
        most = {"grades_off": float(self.n_outputs)}
        is_some = [all(map(math.isfinite, case.prediction)) for case in cases]
        pairs = zip(cases, is_some, strict=True)
        return [case if known else replace(case, scores=most) for case, known in pairs]

    def guess(self, train: Sequence[Truth]) -> tuple[float, ...]:
        """Return the share of patients above each step."""
        grades = np.array([single(truth) for truth in train])
        return tuple(float((grades > step).mean()) for step in range(self.n_outputs))

    def linear(self, features: Array, truths: Array, weights: Array, strength: float) -> None:
        """Return nothing."""
        return

    def answers(self, prediction: Sequence[float], case: Case | None) -> dict[str, str]:
        """Return the grade."""
        return {self.name: self.grades[self._called(prediction)]}

    def described(self) -> dict[str, dict[str, str]]:
        """Return what the column means."""
        return {self.name: {"Description": f"predicted {self.name}"}}

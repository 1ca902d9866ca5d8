"""Regression: one number for each patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedmri.claims import Claim, Claims
from fedmri.data.batches.site_data import Example
from fedmri.data.scans import Finding, Scan, number
from fedmri.data.target import no_truth
from fedmri.errors import require
from fedmri.round import Answer, Truth
from fedmri.tasks.loss_names import loss_name
from fedmri.tasks.task import Array, Case, Predict, Reading, single

if TYPE_CHECKING:
    import torch

    from fedmri.reports.statistics.metrics import Metric
    from fedmri.tasks.losses import Loss

CODED_WITHIN = 2.0
"""Scales from the centre at which the code of a value ends; beyond, it counts as there."""
NAMES = ("mae", "rmse", "r2", "pearson")


@dataclass(frozen=True)
class Regression:
    """Predict a value; a patient's is the mean over examples.

    The network answers in units of ``scale`` around ``centre`` and the loss is in these units;
    predictions and metrics are in the target's own.

    Attributes:
        name: Column of numbers of the subject table.
        loss: ``mae`` (which ``auto`` is), ``huber`` or ``mse``.
        centre: Value that a network which answers 0 predicts. With ``scale`` it brings the target
            near 0 and 1, as 50 and 20 do for adults' ages. Both are public constants of the plan,
            the same at all sites, and not computed from patients. The stage ``target_scale`` finds
            better ones from sums.
        scale: Change of the target that a network's 1 stands for.
        max_error: Largest error of one patient that counts in a site's report, in units of
            ``scale``. So one patient cannot decide a mean over many.
    """

    name: str
    loss: str = "auto"
    centre: float = 0.0
    scale: float = 1.0
    max_error: float = 100.0

    title: ClassVar[str] = "regression"
    activation: ClassVar[str] = "times target.scale, plus target.centre"
    source: ClassVar[str] = "Huber 1964, doi:10.1214/aoms/1177703732 (Huber's loss)"
    example: ClassVar[Mapping[str, Any]] = {"name": "age", "centre": 50.0, "scale": 20.0}
    losses: ClassVar[tuple[str, ...]] = ("mae", "huber", "mse")
    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    answer: ClassVar[Answer] = "image"
    n_outputs: ClassVar[int] = 1
    n_groups: ClassVar[int] = 1
    primary: ClassVar[str] = "mae"
    is_higher_better: ClassVar[bool] = False
    label_map: ClassVar[None] = None

    def __post_init__(self) -> None:
        require(bool(self.name), "target.name", self.name, "a column")
        for name in ("scale", "max_error"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"target.{name}", value, "a positive number")
        loss_name(self.loss, self.losses, self.title)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's channels."""
        return (self.name,)

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.name,)

    @property
    def learned(self) -> str:
        """The column."""
        return f"{self.title} of {self.name}"

    @property
    def reads(self) -> str:
        """The one column."""
        return f"column {self.name} of the subject table"

    def truth(self, scan: Scan) -> Truth:
        """Return the value; raise D16 where it is none."""
        text = scan.columns.get(self.name, "")
        value = number(text)
        if not math.isfinite(value):
            raise no_truth(f"{self.name} {text!r}", "a number")
        return value

    def findings(self, scans: Sequence[Scan]) -> list[Finding]:
        """Return which scans have no number, or one that cannot be true."""
        from fedmri.data.checks.target_values import without_number

        return without_number(scans, self.name)

    def site_findings(
        self, site: str, scans: Sequence[Scan], maps: Sequence[frozenset[int]]
    ) -> list[Finding]:
        """Return nothing."""
        return []

    def stratum(self, scan: Scan) -> str:
        """Return that all are alike."""
        return ""

    def batch_target(self, truths: Sequence[Truth]) -> torch.Tensor:
        """Return values in the target's own unit, shape ``(B,)``, float32."""
        import torch

        return torch.tensor([single(truth) for truth in truths]).to(torch.float32)

    def at_site(self, examples: Sequence[Example]) -> Regression:
        """Return the task itself: nothing is counted."""
        return self

    @cached_property
    def _loss(self) -> Loss:
        from fedmri.tasks.losses import value_loss

        return value_loss(loss_name(self.loss, self.losses, self.title))

    def mean_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of outputs ``(B, 1)`` and targets ``(B,)``, in standard units."""
        wanted = (target - self.centre) / self.scale
        return self._loss(outputs.float()[:, 0], wanted)

    def scaled(self, centre: float, scale: float) -> Regression:
        """Return the task with another centre and scale; what is reported stays in its range."""
        most = min(self.max_error, self._max_error / scale * (1 - 1e-12))  # rounding stays below
        return replace(self, centre=centre, scale=scale, max_error=most)

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return values in the target's unit, shape ``(B, 1)``."""
        return outputs.double() * self.scale + self.centre

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the values of a scan's examples."""
        rows = tuple(tuple(row) for row in predictions.tolist())
        # from the table and not from the batch, which holds it in single precision
        return Reading(len(rows), float(np.mean([single(e.target) for e in examples])), rows)

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's mean value over examples, against the mean truth over scans."""
        values = [row[0] for reading in readings for row in reading.predictions]
        value = float(np.mean(values))
        truth = float(np.mean([single(reading.truth) for reading in readings]))
        return Case(
            site, subject, len(values), truth, (value,), {"absolute_error": abs(value - truth)}
        )

    @property
    def reported(self) -> frozenset[str]:
        """All of them."""
        return frozenset(NAMES)

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Errors up to ``max_error``; an R2 below -1 counts as -1."""
        error = (0.0, self._max_error)
        unit = (-1.0, 1.0)
        loss = (0.0, self.max_error)
        return {"mae": error, "rmse": error, "r2": unit, "pearson": unit, "loss": loss}

    @property
    def _max_error(self) -> float:
        """Largest error of a patient that is reported, in the target's unit."""
        return self.max_error * self.scale

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results whose predictions are ``max_error`` away from the truth at most."""
        return [self._within(case) for case in cases]

    def _within(self, case: Case) -> Case:
        truth, most = single(case.truth), self._max_error
        error = case.prediction[0] - truth
        if abs(error) <= most:
            return case
        error = math.copysign(most, error) if not math.isnan(error) else most
        return replace(case, prediction=(truth + error,), scores={"absolute_error": most})

    def caption(self, reading: Reading) -> str:
        """Return the value and the predicted value."""
        value = float(np.mean(reading.predictions))
        return f"{self.name} {single(reading.truth):.1f}, predicted {value:.1f}"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return errors and explained variance over patients; NaN where undefined.

        ``r2`` is 1 - SSE / SST around the mean of these patients, and may be negative; ``pearson``
        squared is never below it.
        """
        if not cases:
            return dict.fromkeys(NAMES, math.nan)
        truth = np.array([single(case.truth) for case in cases])
        value = np.array([case.prediction[0] for case in cases])
        error, varies = value - truth, np.ptp(truth) > 0
        around = ((truth - truth.mean()) ** 2).sum()
        is_correlated = varies and np.ptp(value) > 0
        return {
            "mae": float(np.abs(error).mean()),
            "rmse": float(np.sqrt((error**2).mean())),
            "r2": float(1 - (error**2).sum() / around) if varies else math.nan,
            "pearson": float(np.corrcoef(truth, value)[0, 1]) if is_correlated else math.nan,
        }

    def measures(self) -> tuple[Metric, ...]:
        """Return the metrics as a report shows them."""
        from functools import partial

        from fedmri.reports.statistics import bounds, influence, weighted
        from fedmri.reports.statistics.metrics import DOWN, UP, Metric

        return (
            Metric(
                "mae", "mean absolute error", 0, math.inf, DOWN,
                partial(bounds.positive_mean, unseen=0.1), weighted.mae,
                influence.absolute_errors, is_patient_mean=True,
            ),
            Metric(
                "rmse", "root mean squared error", 0, math.inf, DOWN,
                partial(bounds.root_mean_square, unseen=0.15), weighted.rmse,
                influence.mean_square, is_root=True,
            ),
            Metric(
                "r2", "R\N{SUPERSCRIPT TWO}", -math.inf, 1, UP,
                partial(bounds.explained_variance, unseen=0.15), weighted.r2,
                influence.explained,
            ),
            Metric(
                "pearson", "Pearson correlation", -1, 1, UP, bounds.fisher,
                weighted.correlation, influence.correlation,
            ),
        )  # fmt: skip

    def guess(self, train: Sequence[Truth]) -> tuple[float, ...]:
        """Return the mean."""
        return (float(np.mean([single(truth) for truth in train])),)

    def linear(self, features: Array, truths: Array, weights: Array, strength: float) -> Predict:
        """Return a ridge regression."""
        from fedmri.tasks.linear.ridge import RidgeSums

        sums = RidgeSums.of(features, truths, weights)
        level, coefficients = sums.ridge(strength / len(features))
        return lambda rows: level + rows @ coefficients[:, None]

    @property
    def per_code(self) -> float:
        """Return the scales that a code of 1 stands for."""
        return CODED_WITHIN

    def coded(self, truths: Array) -> Array:
        """Return values in units of two scales around the centre, -1 and 1 at most."""
        units = (truths.reshape(-1, 1) - self.centre) / (CODED_WITHIN * self.scale)
        return np.clip(units, -1.0, 1.0)

    def answers(self, prediction: Sequence[float], case: Case | None) -> dict[str, str]:
        """Return the value."""
        return {self.name: repr(float(prediction[0]))}

    def described(self) -> dict[str, dict[str, str]]:
        """Return what the column means."""
        return {self.name: {"Description": f"predicted {self.name}"}}

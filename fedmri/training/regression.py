"""Regression: one value for each patient, in the target's own unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from fedmri.data.batches.site_data import Example
from fedmri.round import Target
from fedmri.training.losses import Loss, loss_name, value_loss
from fedmri.training.settings import TaskConfig
from fedmri.training.task import Case, Reading


@dataclass(frozen=True)
class Regression:
    """Predict a value; a patient's is the mean over examples.

    The network answers in units of ``target_scale`` around ``target_centre`` and the loss is in
    these units; predictions and metrics are in the target's own.
    """

    target: Target
    config: TaskConfig
    primary: str = "mae"
    is_higher_better: bool = False

    def at_site(self, examples: Sequence[Example]) -> Regression:
        """Return the task itself: nothing is counted."""
        return self

    @cached_property
    def _loss(self) -> Loss:
        return value_loss(loss_name("regression", self.config))

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of outputs ``(B, 1)`` and targets ``(B,)``, in standard units."""
        wanted = (target - self.config.target_centre) / self.config.target_scale
        return self._loss(outputs.float()[:, 0], wanted)

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return values in the target's unit, shape ``(B, 1)``."""
        return outputs.double() * self.config.target_scale + self.config.target_centre

    def read(
        self, predictions: torch.Tensor, truth: torch.Tensor, examples: Sequence[Example]
    ) -> Reading:
        """Return the values of a scan's examples."""
        rows = tuple(tuple(row) for row in predictions.tolist())
        # from the table and not from the batch, which holds it in single precision
        return Reading(len(rows), float(np.mean([e.target for e in examples])), rows)

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return a patient's mean value over examples, against the mean truth over scans."""
        values = [row[0] for reading in readings for row in reading.predictions]
        value = float(np.mean(values))
        truth = float(np.mean([reading.truth for reading in readings]))
        return Case(
            site, subject, len(values), truth, (value,), {"absolute_error": abs(value - truth)}
        )

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Errors up to ``task.max_error``; an R2 below -1 counts as -1."""
        error = (0.0, self._max_error)
        unit = (-1.0, 1.0)
        loss = (0.0, self.config.max_error)
        return {"mae": error, "rmse": error, "r2": unit, "pearson": unit, "loss": loss}

    @property
    def _max_error(self) -> float:
        """Largest error of a patient that is reported, in the target's unit."""
        return self.config.max_error * self.config.target_scale

    def clipped(self, cases: Sequence[Case]) -> list[Case]:
        """Return results whose predictions are ``task.max_error`` away from the truth at most."""
        return [self._within(case) for case in cases]

    def _within(self, case: Case) -> Case:
        most, error = self._max_error, case.prediction[0] - case.truth
        if abs(error) <= most:
            return case
        error = math.copysign(most, error) if not math.isnan(error) else most
        return replace(case, prediction=(case.truth + error,), scores={"absolute_error": most})

    def caption(self, reading: Reading) -> str:
        """Return the value and the predicted value."""
        value = float(np.mean(reading.predictions))
        return f"{self.target.name} {reading.truth:.1f}, predicted {value:.1f}"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return errors and explained variance over patients; NaN where undefined.

        ``r2`` is 1 - SSE / SST around the mean of these patients, and may be negative; ``pearson``
        squared is never below it.
        """
        if not cases:
            return dict.fromkeys(("mae", "rmse", "r2", "pearson"), math.nan)
        truth = np.array([case.truth for case in cases])
        value = np.array([case.prediction[0] for case in cases])
        varies = np.ptp(truth) > 0
        is_correlated = varies and np.ptp(value) > 0
        return {
            "mae": float(mean_absolute_error(truth, value)),
            "rmse": float(root_mean_squared_error(truth, value)),
            "r2": float(r2_score(truth, value)) if varies else math.nan,
            "pearson": float(np.corrcoef(truth, value)[0, 1]) if is_correlated else math.nan,
        }

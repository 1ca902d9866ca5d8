"""Regression with a predicted standard deviation: one number for each patient, and how sure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedmri.tasks.kinds import regression
from fedmri.tasks.task import MOST_LOSS, Array, Case, Predict, Reading, single

if TYPE_CHECKING:
    import torch

    from fedmri.reports.statistics.metrics import Metric

MOST_LOG_VARIANCE = 8.0
"""Bound of the log variance, in units of ``scale``: deviations lie between 0.02 and 55 of them."""
LEAST_LOSS = (math.log(2 * math.pi) - MOST_LOG_VARIANCE) / 2
Z95 = 1.959963984540054
"""Half the width of a normal distribution's central 95 %, in standard deviations."""
OWN = ("gaussian_nll", "coverage_95")


@dataclass(frozen=True)
class GaussianRegression(regression.Regression):
    """Predict a value and its standard deviation, by the likelihood of a normal distribution.

    The network answers a value and the logarithm of a variance, in units of ``scale``. A patient
    with several examples has the mean and deviation of the mixture of their distributions. The
    deviation covers what varies between patients who look alike. It knows nothing of patients
    unlike those of training: `fedmri explain` measures that.

    Attributes:
        name: Column of numbers of the subject table.
        loss: ``nll`` (which ``auto`` is), the negative log-likelihood.
        centre: Value that a network which answers 0 predicts; see ``regression``.
        scale: Change of the target that a network's 1 stands for.
        max_error: Largest error of one patient that counts in a site's report, in units of
            ``scale``.
    """

    title: ClassVar[str] = "regression with a standard deviation"
    activation: ClassVar[str] = (
        "the first channel times target.scale, plus target.centre; of the second c, the deviation "
        "is target.scale times exp(4 tanh(c / 8))"
    )
    source: ClassVar[str] = (
        "Nix and Weigend 1994, doi:10.1109/ICNN.1994.374138; Kendall and Gal 2017, arXiv:1703.04977"
    )
    losses: ClassVar[tuple[str, ...]] = ("nll",)
    claims = regression.Regression.claims
    n_outputs: ClassVar[int] = 2

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's channels."""
        return (self.name, self._deviation)

    @property
    def _deviation(self) -> str:
        return f"{self.name}_sd"

    def mean_loss(self, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean negative log-likelihood of targets ``(B,)``, in standard units."""
        value, log_variance = outputs.float()[:, 0], _bounded(outputs.float()[:, 1])
        squares = ((target - self.centre) / self.scale - value).square()
        each = log_variance + squares * (-log_variance).exp() + math.log(2 * math.pi)
        return each.mean() / 2

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return values and deviations in the target's unit, shape ``(B, 2)``."""
        import torch

        value, log_variance = outputs.double().unbind(1)
        deviation = (_bounded(log_variance) / 2).exp() * self.scale
        return torch.stack([value * self.scale + self.centre, deviation], dim=1)

    def case(self, site: str, subject: str, readings: Sequence[Reading]) -> Case:
        """Return mean and deviation of the mixture over examples, against the mean truth."""
        rows = np.array([row for reading in readings for row in reading.predictions])
        with np.errstate(invalid="ignore"):  # a network may answer infinity: see ``clipped``
            value = float(rows[:, 0].mean())
            deviation = float(np.sqrt((rows[:, 1] ** 2).mean() + rows[:, 0].var()))
        truth = float(np.mean([single(reading.truth) for reading in readings]))
        case = Case(site, subject, len(rows), truth, (value, deviation))
        return replace(case, scores=self._scores(case))

    def _scores(self, case: Case) -> dict[str, float]:
        value, deviation = case.prediction
        error, unit = value - single(case.truth), deviation / self.scale
        nll = math.log(2 * math.pi) / 2 + math.log(unit) + (error / deviation) ** 2 / 2
        is_inside = float(abs(error) <= Z95 * deviation)
        return {
            "absolute_error": abs(error),
            "gaussian_nll": nll,
            "coverage_95": math.nan if math.isnan(error) else is_inside,
        }

    @property
    def reported(self) -> frozenset[str]:
        """All of them."""
        return super().reported | {*OWN}

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """As of a regression; a likelihood counts within what the bounded deviation can give."""
        likely = (LEAST_LOSS, MOST_LOSS)
        own = {"loss": likely, "gaussian_nll": likely, "coverage_95": (0.0, 1.0)}
        return {**super().ranges, **own}

    def _within(self, case: Case) -> Case:
        """Return a result within the ranges; one that is not finite is far off and very sure."""
        value, deviation = case.prediction
        if not math.isfinite(value) or not math.isfinite(deviation):
            least = self.scale * math.exp(-MOST_LOG_VARIANCE / 2)
            case = replace(case, prediction=(single(case.truth) + self._max_error, least))
        elif abs(value - single(case.truth)) > self._max_error:
            far = math.copysign(self._max_error, value - single(case.truth))
            case = replace(case, prediction=(single(case.truth) + far, deviation))
        scores = self._scores(case)
        nll = min(max(scores["gaussian_nll"], LEAST_LOSS), MOST_LOSS)
        return replace(case, scores={**scores, "gaussian_nll": nll})

    def caption(self, reading: Reading) -> str:
        """Return the value, and the predicted value with its deviation."""
        value, deviation = self.case("", "", [reading]).prediction
        return f"{self.name} {single(reading.truth):.1f}, predicted {value:.1f} ± {deviation:.1f}"

    def metrics(self, cases: Sequence[Case]) -> dict[str, float]:
        """Return those of a regression, the likelihood, and the share inside 95 % intervals."""
        found = super().metrics(cases)
        for name in OWN:
            own = [case.scores[name] for case in cases]
            found[name] = math.fsum(own) / len(own) if own else math.nan
        return found

    def measures(self) -> tuple[Metric, ...]:
        """Return the metrics as a report shows them."""
        from functools import partial

        from fedmri.reports.statistics import bounds
        from fedmri.reports.statistics.metrics import DOWN, UP, Metric

        share = partial(bounds.bounded_mean, low=0.0, high=1.0, failure=0.0, unseen=0.05)
        return (
            *super().measures(),
            Metric(
                "gaussian_nll", "negative log-likelihood", LEAST_LOSS, MOST_LOSS, DOWN,
                bounds.student, is_patient_mean=True,
            ),
            Metric(
                "coverage_95", "share inside the 95 % interval (0.95 is right)", 0, 1, UP, share,
                is_patient_mean=True, is_discrete=True,
            ),
        )  # fmt: skip

    def guess(self, train: Sequence[float | tuple[float, ...]]) -> tuple[float, ...]:
        """Return mean and deviation of the training patients."""
        truths = [single(truth) for truth in train]
        return float(np.mean(truths)), self._at_least(float(np.std(truths)))

    def linear(self, features: Array, truths: Array, weights: Array, strength: float) -> Predict:
        """Return a ridge regression, with the deviation of its training errors for everyone."""
        value_of = super().linear(features, truths, weights, strength)
        errors = value_of(features)[:, 0] - truths
        deviation = self._at_least(float(np.sqrt(np.average(errors**2, weights=weights))))
        return lambda rows: np.column_stack([value_of(rows), np.full(len(rows), deviation)])

    def _at_least(self, deviation: float) -> float:
        """Return a deviation that is not below what a network can answer."""
        return max(deviation, self.scale * math.exp(-MOST_LOG_VARIANCE / 2))

    def answers(self, prediction: Sequence[float], case: Case | None) -> dict[str, str]:
        """Return the value and its standard deviation."""
        return dict(zip(self.outputs, (repr(float(number)) for number in prediction), strict=True))

    def described(self) -> dict[str, dict[str, str]]:
        """Return what the columns mean."""
        spread = f"standard deviation of {self.name} among patients who look like this one"
        return {**super().described(), self._deviation: {"Description": spread}}


def _bounded(log_variance: torch.Tensor) -> torch.Tensor:
    """Return a log variance within its bounds, with a gradient everywhere."""
    return MOST_LOG_VARIANCE * (log_variance / MOST_LOG_VARIANCE).tanh()

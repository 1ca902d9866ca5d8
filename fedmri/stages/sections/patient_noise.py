"""Differential privacy of each patient: gradients are clipped and noised in every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.stages.account import Release
from fedmri.stages.stage import AtSite, Leaving, Place, Stage

if TYPE_CHECKING:
    from fedmri.privacy.accounting import Steps
    from fedmri.privacy.dp_sgd import PrivateSteps
    from fedmri.privacy.settings import PrivacyConfig
    from fedmri.training.settings import TrainConfig


@dataclass(frozen=True)
class PatientNoise(Stage):
    """DP-SGD by patient; see ``fedmri.privacy.dp_sgd``."""

    config: PrivacyConfig

    place: ClassVar[Place] = Place.UPDATES

    def steps(self, train: TrainConfig, n_subjects: int) -> Steps | None:
        """Return the noised steps; None where there is no patient."""
        from fedmri.privacy.dp_sgd import round_steps

        if not n_subjects:
            return None
        epochs, steps = train.local_epochs, train.local_steps
        return round_steps(self.config, n_subjects, local_epochs=epochs, local_steps=steps)

    def batches(self, at: AtSite, order: Callable[[], str], phase: str) -> PrivateSteps:
        """Return where batches and noised gradients come from."""
        return at.account.batches(order(), phase)

    def refuse_spending(self, at: AtSite, steps: Steps | None) -> None:
        """Refuse a round beyond the caps of plan and site (P31)."""
        if steps is not None:
            at.account.refuse_beyond(steps, "patient", at.n_subjects)

    def told(
        self, at: AtSite, leaving: Leaving, steps: Steps | None, metrics: Mapping[str, float]
    ) -> dict[str, float]:
        """Write down what the round cost.

        The loss and the number of steps that were skipped have no noise, so they stay. Examples
        seen are those expected, which follow from the plan and the number of patients alone.
        """
        told = without_noise(metrics)
        if steps is None:
            return told
        told["n_seen"] = steps.n_steps * steps.sample_rate * at.n_subjects
        release = Release(
            at.n_subjects, at.round_index, leaving.arrays, leaving.extra, steps, "patient"
        )
        spent = at.account.reserve(release)
        return {**told, "epsilon": spent.epsilon, "delta": spent.delta}


def without_noise(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics without those that the noise of the plan is not on."""
    return {**{n: v for n, v in metrics.items() if n != "n_skipped"}, "loss": math.nan}

"""What differential privacy costs, before anybody trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmri.errors import require

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PrivacyPlan:
    """Noise for an epsilon of one patient at one site, over all rounds together.

    Attributes:
        noise_multiplier: Noise over the clip norm.
        delta: Probability that epsilon does not hold.
        sample_rate: Share of the patients in a step.
        steps_a_round: Steps of a round.
        batch: Patients of a step, expected.
        by_round: What has been spent after a round, ``(round, epsilon)``.
    """

    noise_multiplier: float
    delta: float
    sample_rate: float
    steps_a_round: int
    batch: float
    by_round: tuple[tuple[int, float], ...]

    @property
    def epsilon(self) -> float:
        """What the whole training costs."""
        return self.by_round[-1][1]

    @property
    def settings(self) -> tuple[str, str]:
        """Settings that train with this noise."""
        noise = f"privacy.noise_multiplier={self.noise_multiplier:.4g}"
        return noise, f"privacy.batch_subjects={self.batch:g}"

    def table(self) -> pd.DataFrame:
        """Return what has been spent after each round."""
        import pandas as pd

        return pd.DataFrame(self.by_round, columns=["round", "epsilon"])


def privacy_plan(  # noqa: PLR0913  # every one is named at the call
    patients: int,
    *,
    rounds: int,
    epsilon: float = 8.0,
    batch: float = 16.0,
    steps: int = 0,
    epochs: int = 1,
    delta: float = 0.0,
) -> PrivacyPlan:
    """Find the noise with which a site's training costs an epsilon.

    Args:
        patients: Training patients of the site.
        rounds: Rounds of training.
        epsilon: What the whole training may cost one patient.
        batch: Patients of a step, expected.
        steps: Steps of a round; 0 counts passes over the patients.
        epochs: Passes over the patients in a round.
        delta: 0 is one tenth over the patients.

    Raises:
        ConfigError: A number cannot be taken (C01).
    """
    from fedmri.privacy.accounting import curve, noise_for

    require(0 < epsilon < math.inf, "--epsilon", epsilon, "a positive number")
    require(epochs >= 1, "--epochs", epochs, "1 or more")
    require(patients >= 1, "--patients", patients, "1 or more")
    require(rounds >= 1, "--rounds", rounds, "1 or more")
    require(0 < batch <= patients, "--batch", batch, f"above 0, up to {patients}")
    require(steps >= 0, "--steps", steps, "0 or more")
    require(0 <= delta < 1, "--delta", delta, "0 or more, below 1")
    each = steps or epochs * math.ceil(patients / batch)
    rate, bound = batch / patients, delta or 0.1 / patients
    noise = noise_for(epsilon, bound, rate, each * rounds)
    points = tuple(curve(noise, rate, each, bound, rounds))
    return PrivacyPlan(noise, bound, rate, each, batch, points)

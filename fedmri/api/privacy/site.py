"""What hiding a whole hospital would cost: the noise, beside all that there could be to learn."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fedmri.errors import require

if TYPE_CHECKING:
    import pandas as pd

OTHERS = (20, 100, 1000)
"""Numbers of hospitals that the asked one is set beside."""


@dataclass(frozen=True)
class MeanNoise:
    """Noise on the mean over hospitals, as a norm in units of the clip norm.

    Attributes:
        n_sites: Hospitals.
        each_adds_all: Where the server sees each release.
        sum_alone_seen: Where each adds a share, under secure aggregation.
    """

    n_sites: int
    each_adds_all: float
    sum_alone_seen: float


@dataclass(frozen=True)
class SitePrivacyPlan:
    """Noise for an epsilon of one hospital, over all rounds together.

    Attributes:
        noise_multiplier: Noise over the clip norm.
        epsilon: What the whole training costs.
        delta: Probability that epsilon does not hold.
        n_rounds: Releases.
        n_sites: Hospitals of the consortium.
        n_values: Numbers of a release.
        by_sites: What the noise does to a mean over so many hospitals.
    """

    noise_multiplier: float
    epsilon: float
    delta: float
    n_rounds: int
    n_sites: int
    n_values: int
    by_sites: tuple[MeanNoise, ...]

    @property
    def settings(self) -> tuple[str]:
        """Settings that train with this noise."""
        return (f"privacy.site.noise_multiplier={self.noise_multiplier:.4g}",)

    def table(self) -> pd.DataFrame:
        """Return the noise on a mean over hospitals, in units of the clip norm."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.by_sites])


def site_privacy_plan(
    sites: int, *, rounds: int, epsilon: float = 8.0, delta: float = 1e-3, dimensions: int = 514
) -> SitePrivacyPlan:
    """Find the noise with which training costs a whole hospital an epsilon.

    Args:
        sites: Hospitals of the consortium.
        rounds: Rounds of training.
        epsilon: What the whole training may cost one hospital.
        delta: Probability that epsilon does not hold.
        dimensions: How many numbers a release has.

    Raises:
        PrivacyError: No noise is enough (P30).
        ConfigError: A number is out of range (C01).
    """
    from fedmri.privacy.accounting import Steps, noise_for, spent
    from fedmri.privacy.site_level import mean_error

    require(0 < epsilon < math.inf, "--epsilon", epsilon, "a positive number")
    require(0 < delta < 1, "--delta", delta, "above 0, below 1")
    require(rounds >= 1, "--rounds", rounds, "1 or more")
    require(sites >= 1, "--sites", sites, "1 or more")
    require(dimensions >= 1, "--dimensions", dimensions, "1 or more")
    noise = noise_for(epsilon, delta, 1.0, rounds)
    cost = spent([Steps(noise, 1.0, rounds)], delta).epsilon
    rows = tuple(
        MeanNoise(n, *(mean_error(noise, dimensions, n, is_shared=s) for s in (False, True)))
        for n in sorted({sites, *OTHERS})
    )
    return SitePrivacyPlan(noise, cost, delta, rounds, sites, dimensions, rows)

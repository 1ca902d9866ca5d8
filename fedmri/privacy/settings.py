"""Settings of the privacy room."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from fedmri.errors import require


@dataclass(frozen=True)
class SiteNoiseConfig:
    """Differential privacy of a whole hospital in what it releases each round; for few numbers.

    Attributes:
        noise_multiplier: Standard deviation of the noise, in units of ``clip_norm``: on the sum
            over ``n_shares`` hospitals; 0 adds none.
        clip_norm: Largest L2 norm of the change of a hospital's shared entries.
        n_shares: Hospitals whose noise makes the whole together; above 1 only where nobody sees a
            release but in the sum. Each is accounted for by its own share.
        max_epsilon: Most that a hospital may spend, over all plans; 0 sets no bound.
        delta: Of the guarantee for a hospital.
        max_values: Most numbers of a release.
    """

    noise_multiplier: float = 0.0
    clip_norm: float = 1.0
    n_shares: int = 1
    max_epsilon: float = 0.0
    delta: float = 1e-3
    max_values: int = 10_000

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "max_epsilon"):
            value = getattr(self, name)
            is_right = 0 <= value < math.inf
            require(is_right, f"privacy.site.{name}", value, "0 or more")
        norm = self.clip_norm
        require(0 < norm < math.inf, "privacy.site.clip_norm", norm, "a positive number")
        require(self.n_shares >= 1, "privacy.site.n_shares", self.n_shares, "1 or more")
        require(0 < self.delta < 1, "privacy.site.delta", self.delta, "above 0, below 1")
        require(self.max_values >= 1, "privacy.site.max_values", self.max_values, "1 or more")

    @property
    def is_on(self) -> bool:
        """Whether releases are clipped and noised."""
        return self.noise_multiplier > 0


@dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy of each patient at each site; off unless ``noise_multiplier`` is set.

    Attributes:
        noise_multiplier: Standard deviation of the noise on a sum of clipped gradients, in units of
            ``clip_norm``. 0 trains without noise and without any guarantee.
        clip_norm: Largest L2 norm of one patient's gradient.
        batch_subjects: Expected number of patients in a step. Each patient is drawn with this
            number over the site's patients as probability.
        max_epsilon: Most that a site may spend in a run; 0 sets no bound. A round that would go
            beyond it is not trained.
        delta: Of the guarantee; 0 takes one tenth over a site's training patients.
        is_audited: Whether each site sends one more number with its test scores: a lower bound on
            epsilon. It comes from the final model's losses on its patients, and these are without
            noise.
        site: Noise for a whole hospital, beside or instead of that for its patients.
    """

    noise_multiplier: float = 0.0
    clip_norm: float = 1.0
    batch_subjects: float = 8.0
    max_epsilon: float = 0.0
    delta: float = 0.0
    is_audited: bool = False
    site: SiteNoiseConfig = field(default_factory=SiteNoiseConfig)

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "max_epsilon"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"privacy.{name}", value, "0 or more")
        for name in ("clip_norm", "batch_subjects"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"privacy.{name}", value, "a positive number")
        is_audited = self.is_audited
        want = "false where privacy.noise_multiplier is 0"
        require(not is_audited or self.is_on, "privacy.is_audited", is_audited, want)
        require(0 <= self.delta < 1, "privacy.delta", self.delta, "0 or more, below 1")

    @property
    def is_on(self) -> bool:
        """Whether gradients are clipped and noised."""
        return self.noise_multiplier > 0

    @property
    def is_noised(self) -> bool:
        """Whether anything that is trained has noise: then nothing of it leaves without."""
        return self.is_on or self.site.is_on

    def alone(self) -> PrivacyConfig:
        """Return it for one data holder, from whom nothing leaves: its patients' noise stays."""
        return replace(self, site=SiteNoiseConfig())

    def delta_of(self, n_subjects: int) -> float:
        """Return the delta of a site's guarantee."""
        return self.delta or 0.1 / max(1, n_subjects)

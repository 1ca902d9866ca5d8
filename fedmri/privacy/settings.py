"""Settings of the privacy room."""

from __future__ import annotations

from dataclasses import dataclass

from fedmri.errors import require


@dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy of each patient at each site; off unless ``noise_multiplier`` is set.

    Attributes:
        noise_multiplier: Standard deviation of the noise on a sum of clipped gradients, in units of
            ``clip_norm``; 0 trains without noise and without any guarantee.
        clip_norm: Largest L2 norm of one patient's gradient.
        batch_subjects: Patients of a step, expected: each is drawn with this number over the site's
            patients as its probability.
        max_epsilon: Most that a site may spend in a run; 0 sets no bound. A round that would go
            beyond it is not trained.
        delta: Of the guarantee; 0 takes one tenth over a site's training patients.
        is_audited: Whether each site sends, with its test scores, one number more: a lower bound on
            epsilon from the final model's losses on its patients. These are without noise.
    """

    noise_multiplier: float = 0.0
    clip_norm: float = 1.0
    batch_subjects: float = 8.0
    max_epsilon: float = 0.0
    delta: float = 0.0
    is_audited: bool = False

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "max_epsilon"):
            value = getattr(self, name)
            require(value >= 0, f"privacy.{name}", value, "0 or more")
        require(self.clip_norm > 0, "privacy.clip_norm", self.clip_norm, "a positive number")
        batch = self.batch_subjects
        require(batch > 0, "privacy.batch_subjects", batch, "a positive number")
        is_audited = self.is_audited
        want = "false where privacy.noise_multiplier is 0"
        require(not is_audited or self.is_on, "privacy.is_audited", is_audited, want)
        require(0 <= self.delta < 1, "privacy.delta", self.delta, "0 or more, below 1")

    @property
    def is_on(self) -> bool:
        """Whether gradients are clipped and noised."""
        return self.noise_multiplier > 0

    def delta_of(self, n_subjects: int) -> float:
        """Return the delta of a site's guarantee."""
        return self.delta or 0.1 / max(1, n_subjects)

"""Differential privacy of a whole hospital: the change that it releases is clipped and noised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fedmri.stages.account import Release
from fedmri.stages.sections.patient_noise import without_noise
from fedmri.stages.stage import AtSite, Leaving, Place, Stage

if TYPE_CHECKING:
    from fedmri.privacy.accounting import Steps
    from fedmri.privacy.settings import SiteNoiseConfig


@dataclass(frozen=True)
class SiteNoise(Stage):
    """Noise for a hospital as one unit; see ``fedmri.privacy.site_level``."""

    config: SiteNoiseConfig

    place: ClassVar[Place] = Place.UPDATES

    def refuse_spending(self, at: AtSite, steps: Steps | None) -> None:
        """Refuse a release beyond the caps of plan and site (P31)."""
        from fedmri.privacy.site_level import round_cost

        at.account.refuse_beyond(round_cost(self.config), "site", at.n_subjects)

    def outgoing(self, at: AtSite, leaving: Leaving) -> Leaving:
        """Clip and noise the change of the shared entries."""
        from fedmri.privacy.site_level import noised_weights

        stream = at.account.stream(leaving.order(), leaving.arrays)
        noised = noised_weights(leaving.arrays, leaving.received, self.config, stream)
        return replace(leaving, arrays=noised)

    def told(
        self, at: AtSite, leaving: Leaving, steps: Steps | None, metrics: Mapping[str, float]
    ) -> dict[str, float]:
        """Write down what the release costs the hospital."""
        from fedmri.privacy.site_level import round_cost

        cost = round_cost(self.config)
        release = Release(
            at.n_subjects, at.round_index, leaving.arrays, leaving.extra, cost, "site"
        )
        return {**without_noise(metrics), "site_epsilon": at.account.reserve(release).epsilon}

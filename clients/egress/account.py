"""A site's account of privacy as the stages of a plan use it: noise, caps and ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fedmri.clients.egress.digests import update_digest
from fedmri.clients.egress.privacy_ledger import Spend
from fedmri.clients.training.protection.private import Guard
from fedmri.privacy.accounting import Steps
from fedmri.privacy.dp_sgd import PrivateSteps
from fedmri.privacy.settings import PrivacyConfig
from fedmri.privacy.stream import Stream
from fedmri.round import Weights
from fedmri.stages.account import Release, Spending, Unit
from fedmri.wire import as_tensors


@dataclass(frozen=True)
class SiteAccount:
    """What a plan may spend at a site, and what it did.

    Attributes:
        guard: The site's secret, ledger and caps.
        config: The plan's noise and caps.
        fingerprint: Of the site's data.
    """

    guard: Guard
    config: PrivacyConfig
    fingerprint: str

    @property
    def n_least(self) -> int:
        """Patients that must be behind each cell of a sum."""
        return self.guard.n_least

    def batches(self, order: str, phase: str) -> PrivateSteps:
        """Return where batches and gradients of a phase come from."""
        return self.guard.steps(self.config, order, phase)

    def stream(self, order: str, released: Mapping[str, Any]) -> Stream:
        """Return the noise of a release."""
        return self.guard.site_stream(order, _tensors(released))

    def refuse_beyond(self, steps: Steps, unit: Unit, n_subjects: int) -> None:
        """Refuse steps that would spend more than plan or site allow (P31, P05, P06)."""
        if unit == "site":
            self.guard.refuse_site_beyond(self.config.site)
        else:
            self.guard.refuse_beyond(steps, self.config, n_subjects)

    def reserve(self, release: Release) -> Spending:
        """Write down a release before it leaves; return all that was spent."""
        steps, n_subjects = release.steps, release.n_subjects
        spend = Spend(
            self.fingerprint,
            self.guard.run,
            release.round_index,
            update_digest(_tensors(release.arrays), release.extra),
            steps.noise_multiplier,
            steps.sample_rate,
            steps.n_steps,
            "dp-site" if release.unit == "site" else "dp",
        )
        spent = self.guard.reserve(spend, self.config, n_subjects)
        return Spending(spent.epsilon, self.guard.delta_of(self.config, n_subjects))


def _tensors(arrays: Mapping[str, Any]) -> Weights:
    """Return entries of a model as they are, and arrays of sums as tensors."""
    is_model = all(isinstance(value, torch.Tensor) for value in arrays.values())
    return dict(arrays) if is_model else as_tensors(arrays)

"""Sums that leave a site under noise: the noise is drawn, and the cost is on the disk before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fedmri.harmonize.sums import Arrays
from fedmri.stages.account import Release, Unit
from fedmri.stages.stage import AtSite


@dataclass(frozen=True)
class SumsRelease:
    """Sums that are about to leave.

    Attributes:
        asked: What they answer, for the key of their noise.
        sums: The sums themselves.
        std: Standard deviation of this site's noise on each number.
        noise_multiplier: What is accounted for.
        unit: Whom the noise hides.
    """

    asked: tuple[str | int, ...]
    sums: Arrays
    std: float
    noise_multiplier: float
    unit: Unit


def released(at: AtSite, release: SumsRelease) -> Arrays:
    """Return the sums with noise, once their cost is on the disk.

    Raises:
        PrivacyError: They would cost more than plan or site allow (P31), or the ledger was changed
            or cut (P05, P06).
    """
    from fedmri.privacy.accounting import Steps

    asked = repr((at.site, at.plan.fingerprint, *release.asked))
    stream = at.account.stream(hashlib.sha256(asked.encode()).hexdigest(), release.sums)
    noised = {
        name: values + release.std * stream.normal(values.size).reshape(values.shape)
        for name, values in sorted(release.sums.items())
    }
    cost = Steps(release.noise_multiplier, 1.0, 1)
    at.account.reserve(Release(at.n_subjects, at.round_index, noised, {}, cost, release.unit))
    return noised

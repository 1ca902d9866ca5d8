"""A site's part of the sums over images before the rounds, under the plan's noise if it has any."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fedmri.clients.egress.digests import update_digest
from fedmri.clients.egress.floor import by_channel, patient_scans, without_channels
from fedmri.clients.egress.privacy_ledger import Spend, Unit
from fedmri.clients.training.private import Guard
from fedmri.data.batches.site_data import SiteData, Voxels
from fedmri.errors import RoundError
from fedmri.harmonize.images.bounded_nyul import BoundedNyul
from fedmri.harmonize.images.image_stage import ImageStage, image_stage
from fedmri.harmonize.settings import HarmonizeConfig
from fedmri.harmonize.sums import Arrays
from fedmri.plan import Plan
from fedmri.wire import SumsOrder, as_arrays, as_tensors

BEFORE_ROUNDS = 0


@dataclass(frozen=True)
class ImageSums:
    """The site's half of a harmonization of images.

    Attributes:
        site: Name of the site.
        plan: What is learned.
        data: The site's examples.
        guard: Its secret and account.
    """

    site: str
    plan: Plan
    data: SiteData
    guard: Guard

    def shapes(self, order: SumsOrder) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what is sent; raise RoundError R11 for a step that is not there."""
        arrays = self._stage(order).site_sums(order.step, (), as_arrays(order.shared))
        return {name: values.shape for name, values in arrays.items()}

    def of(self, order: SumsOrder) -> Arrays:
        """Return this site's part of the sums, over its training scans.

        Raises:
            RoundError: The plan has no such step (R11).
            PrivacyError: The noise would cost more than a cap allows (P31), or the ledger cannot
                be trusted or written.
        """
        stage, shared = self._stage(order), as_arrays(order.shared)
        kept = self._kept
        if not isinstance(stage, BoundedNyul):
            scans = without_channels(self.data.scans("train"), kept)
            return stage.site_sums(order.step, scans, shared)
        groups = image_groups(self.data, self.plan.harmonize)
        sums = stage.site_sums(order.step, (without_channels(g, kept) for g in groups), shared)
        is_noised = self.plan.harmonize.noise_multiplier > 0
        return self._noised(order, sums, stage.bound) if is_noised else sums

    @cached_property
    def _kept(self) -> NDArray[np.bool_]:
        """Which modalities enough patients have: the others are in no sum."""
        n_channels, n_least = len(self.plan.data.source.modalities), self.guard.n_least
        if not n_least:
            return np.ones(n_channels, dtype=np.bool_)
        return by_channel(self.data, n_channels, n_least)

    def _stage(self, order: SumsOrder) -> ImageStage:
        stage = image_stage(self.plan.harmonize, len(self.plan.data.source.modalities))
        if stage is None or order.step not in range(stage.n_steps):
            fix = "run the same version of fedmri as the server"
            found, want = f"step {order.step}", "a step of the plan's harmonization"
            raise RoundError("R11", "order for sums", found=found, want=want, fix=fix)
        return stage

    def _noised(self, order: SumsOrder, sums: Arrays, bound: float) -> Arrays:
        """Return the sums with noise, once their cost is on the disk."""
        noise = self.plan.harmonize.noise_multiplier
        asked = repr((self.site, self.plan.fingerprint, "sums", order.step))
        digest = hashlib.sha256(asked.encode()).hexdigest()
        stream = self.guard.site_stream(digest, as_tensors(sums))
        noised = {
            name: values + noise * bound * stream.normal(values.size).reshape(values.shape)
            for name, values in sorted(sums.items())
        }
        sent = update_digest(as_tensors(noised), {})
        unit: Unit = "dp-site" if self.plan.harmonize.weighting == "site" else "dp"
        run, fingerprint = self.guard.run, self.data.fingerprint
        spend = Spend(fingerprint, run, BEFORE_ROUNDS, sent, noise, 1.0, 1, unit)
        n_subjects = len({(e.site, e.subject) for e in self.data.examples("train")})
        self.guard.reserve(spend, self.plan.privacy, n_subjects)
        return noised


def image_groups(data: SiteData, config: HarmonizeConfig) -> Iterator[Iterator[Voxels]]:
    """Yield the training images of each patient, or all of the site's as one group."""
    if config.weighting == "site":
        yield data.scans("train")
        return
    for _, of_patient in groupby(patient_scans(data), key=lambda pair: pair[0]):
        yield (voxels for _, voxels in of_patient)

"""Nyúl's histogram standard: each image's landmarks are mapped to those of all sites."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedmri.claims import Claims
from fedmri.errors import require
from fedmri.harmonize.sums import Arrays
from fedmri.stages.account import Unit
from fedmri.stages.floor import by_channel, patient_scans, without_channels
from fedmri.stages.noised import SumsRelease, released
from fedmri.stages.on_images import SUMS_OF_IMAGES, OnImages, refuse_other, training_scans
from fedmri.stages.stage import AtSite, ImageChange, Made, When

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedmri.data.batches.site_data import Voxels
    from fedmri.harmonize.images.bounded_nyul import BoundedNyulSums
    from fedmri.harmonize.images.nyul import NyulSums
    from fedmri.plan import Plan

Groups = Iterator["Iterator[Voxels]"]


@dataclass(frozen=True)
class Nyul(OnImages):
    """Every image is stretched so that its percentiles are the landmarks of all sites' images.

    Attributes:
        weighting: Whether each image, each patient or each site counts the same in the landmarks.
        noise_multiplier: Standard deviation of each site's noise on the sums of landmarks; 0 adds
            none. Its unit is the most that one patient (``weighting=patient``) or one site
            (``weighting=site``) can add. It is accounted for with the plan's other noise of the
            same unit.
    """

    weighting: Literal["image", "patient", "site"] = "image"
    noise_multiplier: float = 0.0

    claims: ClassVar[Claims] = SUMS_OF_IMAGES
    source: ClassVar[str] = "Nyúl, Udupa and Zhang 2000, doi:10.1109/42.836373"
    consent: ClassVar[str] = "sums of percentiles of training scans, by modality"

    def __post_init__(self) -> None:
        known = ("image", "patient", "site")
        require(self.weighting in known, "stages.nyul.weighting", self.weighting, ", ".join(known))
        noise = self.noise_multiplier
        require(0 <= noise < math.inf, "stages.nyul.noise_multiplier", noise, "0 or more")
        want = "patient or site with noise: what a patient of several images adds has no bound"
        is_unit = self.weighting != "image"
        require(not noise or is_unit, "stages.nyul.weighting", self.weighting, want)

    def refuse(self, plan: Plan) -> None:
        """Refuse noise beside other sums, to which a patient adds without a bound (C01)."""
        others = any(one.when is not When.NEVER and one is not self for one in plan.stages)
        noise, want = self.noise_multiplier, "0 where other stages are fitted by sums as well"
        require(not (noise and others), "stages.nyul.noise_multiplier", noise, want)

    @property
    def is_bounded(self) -> bool:
        """Whether sums of landmarks are such that it is known what one patient or site adds."""
        return self.noise_multiplier > 0 or self.weighting == "patient"

    @property
    def noise(self) -> Mapping[str, float]:
        """Its noise, by the unit that it hides."""
        return {self.weighting: self.noise_multiplier} if self.noise_multiplier else {}

    def alone(self) -> Nyul:
        """Return it without noise for a whole site: a hospital by itself hides in no sum."""
        return replace(self, noise_multiplier=0.0) if self.weighting == "site" else self

    def fit(self, made: Made) -> NyulSums | BoundedNyulSums:
        """Return the sums of landmarks."""
        from fedmri.harmonize.images.bounded_nyul import BoundedNyulSums
        from fedmri.harmonize.images.nyul import NyulSums

        if self.is_bounded:
            return BoundedNyulSums(made.n_channels)
        return NyulSums(made.n_channels, is_site_weighted=self.weighting == "site")

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return this site's part of the sums of landmarks, with the plan's noise if it has any."""
        fit: Any = self.fit(at.made)
        scans = self.groups(at) if self.is_bounded else training_scans(at)
        sums: Arrays = fit.site_sums(step, scans, shared)
        if not self.noise_multiplier:
            return sums
        unit: Unit = "site" if self.weighting == "site" else "patient"
        std = self.noise_multiplier * fit.bound
        return released(at, SumsRelease(("sums", step), sums, std, self.noise_multiplier, unit))

    def groups(self, at: AtSite) -> Groups:
        """Yield the training images of each patient, or all of the site's as one group."""
        n_least = at.account.n_least
        kept = by_channel(at.data, at.made.n_channels, n_least) if n_least else None
        if self.weighting == "site":
            yield _without(at.data.scans("train"), kept)
            return
        for _, of_patient in groupby(patient_scans(at.data), key=lambda pair: pair[0]):
            yield _without((voxels for _, voxels in of_patient), kept)

    def image_change(self, made: Made, fitted: Arrays) -> ImageChange:
        """Return the map of an image's percentiles to the landmarks."""
        from fedmri.harmonize.images.nyul import LANDMARKS, PERCENTILES, Standardised

        refuse_other(fitted, {LANDMARKS: (made.n_channels, len(PERCENTILES))})
        return Standardised(fitted)


def _without(scans: Iterator[Voxels], kept: NDArray[np.bool_] | None) -> Iterator[Voxels]:
    return scans if kept is None else without_channels(scans, kept)

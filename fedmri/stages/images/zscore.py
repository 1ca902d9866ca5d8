"""One scale for the images of all sites: the mean and standard deviation of all their voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claims
from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_images import SUMS_OF_IMAGES, OnImages, refuse_other, refuse_scaled
from fedmri.stages.stage import ImageChange, Made

if TYPE_CHECKING:
    from fedmri.harmonize.images.moments import Moments
    from fedmri.plan import Plan


@dataclass(frozen=True)
class Zscore(OnImages):
    """All images are scaled by one mean and standard deviation of all sites' voxels."""

    claims: ClassVar[Claims] = SUMS_OF_IMAGES
    source: ClassVar[str] = "the pooled z-score, by exact sums over sites"
    consent: ClassVar[str] = "sums and squares of voxels of training scans, by modality"

    def refuse(self, plan: Plan) -> None:
        """Refuse a plan that scales each image by itself (C03)."""
        refuse_scaled(plan, "zscore")

    def fit(self, made: Made) -> Moments:
        """Return the sums of moments."""
        from fedmri.harmonize.images.moments import Moments

        return Moments(made.n_channels)

    def image_change(self, made: Made, fitted: Arrays) -> ImageChange:
        """Return the common scale."""
        import numpy as np

        from fedmri.harmonize.images.moments import MEAN, VARIANCE, Scaled

        refuse_other(fitted, {MEAN: (made.n_channels,), VARIANCE: (made.n_channels,)})
        return Scaled(fitted[MEAN], np.sqrt(fitted[VARIANCE]))

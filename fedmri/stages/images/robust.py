"""One scale for the images of all sites: the median and quartiles of all their voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claims
from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_images import SUMS_OF_IMAGES, OnImages, refuse_other, refuse_scaled
from fedmri.stages.stage import ImageChange, Made

if TYPE_CHECKING:
    from fedmri.harmonize.images.quantiles import Quantiles
    from fedmri.plan import Plan


@dataclass(frozen=True)
class Robust(OnImages):
    """All images are scaled by one median and interquartile range of all sites' voxels."""

    claims: ClassVar[Claims] = SUMS_OF_IMAGES
    source: ClassVar[str] = "pooled quantiles, by merged histograms"
    consent: ClassVar[str] = "histograms of voxels of training scans, by modality"

    def refuse(self, plan: Plan) -> None:
        """Refuse a plan that scales each image by itself (C03)."""
        refuse_scaled(plan, "robust")

    def fit(self, made: Made) -> Quantiles:
        """Return the sums of histograms."""
        from fedmri.harmonize.images.quantiles import Quantiles

        return Quantiles(made.n_channels)

    def image_change(self, made: Made, fitted: Arrays) -> ImageChange:
        """Return the common scale."""
        from fedmri.harmonize.images.moments import Scaled
        from fedmri.harmonize.images.nyul import NORMAL_IQR
        from fedmri.harmonize.images.quantiles import QUANTILES, ROBUST

        refuse_other(fitted, {QUANTILES: (made.n_channels, len(ROBUST))})
        low, middle, high = fitted[QUANTILES].T
        return Scaled(middle, (high - low) / NORMAL_IQR)

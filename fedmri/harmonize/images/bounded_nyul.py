"""Nyúl's landmarks from sums to which nobody adds more than is known beforehand.

Noise can hide one patient, or one hospital, in a sum only where it is known how much either may
add. Landmarks lie between 0 and 100 by themselves, so nothing is clipped: each patient (or
hospital) adds the mean of its images' eleven inner landmarks, from the middle of the scale, and 1
to a count. The count is brought to the size of the landmarks, since one noise lies on both.

Source:
    Nyúl, Udupa and Zhang 2000, doi:10.1109/42.836373 (landmarks); Dwork and Roth 2014,
    doi:10.1561/0400000042, appendix A (Gaussian mechanism).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.images.nyul import LANDMARKS, N_IMAGES, PERCENTILES, WIDTH, Image, NyulSums
from fedmri.harmonize.sums import Arrays

MIDDLE = WIDTH / 2
N_INNER = len(PERCENTILES) - 2
"""The first and the last landmark are 0 and 100 of every image."""
SCALE = MIDDLE * math.sqrt(N_INNER)
"""Largest L2 norm of one channel's landmarks from the middle; a count of 1 weighs as much."""
COUNT = "count"


@dataclass(frozen=True)
class BoundedNyulSums:
    """The landmarks as a stage of sums over groups of images: the patients, or a site as one.

    Attributes:
        n_channels: Channels of an image; each has landmarks of its own.
    """

    n_channels: int
    n_steps: int = 1

    @property
    def bound(self) -> float:
        """Largest L2 norm of what one group adds to all sums together."""
        return SCALE * math.sqrt(2 * self.n_channels)

    def site_sums(self, step: int, data: Iterable[Iterable[Image]], shared: Arrays) -> Arrays:
        """Return sums over groups of their mean landmarks, and the scaled number of groups.

        Args:
            step: 0.
            data: Groups of images.
            shared: Empty.
        """
        total, count = np.zeros((self.n_channels, N_INNER)), np.zeros(self.n_channels)
        of_group = NyulSums(self.n_channels, is_site_weighted=True)
        for images in data:
            own = of_group.site_sums(0, images, {})
            has_any = own[N_IMAGES] > 0
            total[has_any] += np.clip(own[LANDMARKS][has_any, 1:-1], 0, WIDTH) - MIDDLE
            count += has_any
        return {LANDMARKS: total, COUNT: count * SCALE}

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return the mean landmarks in ascending order, shape ``(C, 13)``.

        Noise may have put them out of order: they are brought to the closest that ascend.

        Raises:
            HarmonizeError: A channel has not one group, after noise (H20).
        """
        count = total[COUNT] / SCALE
        few = np.flatnonzero(count < 0.5)
        if len(few):
            fix = "have more patients, or lower stages.nyul.noise_multiplier"
            what = f"landmarks of channel {int(few[0])}"
            found = f"{count[few[0]]:.1f} patients or sites, after the plan's noise"
            raise HarmonizeError("H20", what, found=found, want="one or more", fix=fix)
        inner = MIDDLE + total[LANDMARKS] / count[:, None]
        return {LANDMARKS: np.stack([_ascending(values) for values in inner])}


def _ascending(inner: NDArray[np.float64]) -> NDArray[np.float64]:
    from sklearn.isotonic import isotonic_regression

    fitted = isotonic_regression(inner, y_min=0, y_max=WIDTH)
    return np.concatenate([[0.0], fitted, [WIDTH]])

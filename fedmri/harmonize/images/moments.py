"""Federated mean and variance of intensities, from sums that do not cancel.

Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance,
doi:10.1080/00031305.1983.10483115.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.images.quantiles import OCTAVES, Image, refuse_empty
from fedmri.harmonize.sums import Arrays

MEAN, VARIANCE, SCALE = "mean", "variance", "scale"
COUNTS, N_VOXELS, FIRST, SECOND = "counts", "n_voxels", "first", "second"
_POWERS = OCTAVES[OCTAVES > 0]


@dataclass(frozen=True)
class Moments:
    """Mean and variance of all sites' head voxels as a stage of sums.

    Step 0 finds the power of two that no voxel exceeds, by counts, so that all sums lie within the
    number of voxels, whatever the unit: secure sums of 64 bits carry them. Step 1 gives the mean.
    Step 2 sums deviations from it and their squares, which do not cancel as squares of large
    intensities do. The head is where a channel is not 0.

    Attributes:
        n_channels: Channels of an image; each has moments of its own.
    """

    n_channels: int
    n_steps: int = 3

    def site_sums(self, step: int, data: Iterable[Image], shared: Arrays) -> Arrays:
        """Return a step's sums over this site's head voxels, by channel."""
        if step == 0:
            return {COUNTS: self._octaves(data)}
        self._refuse_odd(step, shared)
        n, first, second = np.zeros((3, self.n_channels))
        middle = shared[MEAN] if step == 2 else np.zeros(self.n_channels)
        for image in data:
            for channel in range(self.n_channels):
                head = image[channel][image[channel] != 0].astype(np.float64)
                apart = (head - middle[channel]) / shared[SCALE][channel]
                n[channel] += len(apart)
                first[channel] += apart.sum()
                second[channel] += np.square(apart).sum()
        sums = {N_VOXELS: n, FIRST: first}
        return sums if step == 1 else sums | {SECOND: second}

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return the scale, then the mean too, then mean and variance, each of shape ``(C,)``.

        Raises:
            HarmonizeError: A channel has no voxel in a head at any site (H20).
        """
        if step == 0:
            refuse_empty(total[COUNTS].sum(axis=-1))
            highest = [np.flatnonzero(counts)[-1] for counts in total[COUNTS]]
            return {SCALE: _POWERS[np.array(highest)]}
        n, scale = total[N_VOXELS], shared[SCALE]
        refuse_empty(n)
        shift = total[FIRST] / n
        if step == 1:
            return {SCALE: scale, MEAN: shift * scale}
        # the shift is what rounding, or a site lost since step 1, left in the mean
        variance = np.maximum(total[SECOND] / n - shift**2, 0) * scale**2
        return {MEAN: shared[MEAN] + shift * scale, VARIANCE: variance}

    def _refuse_odd(self, step: int, shared: Arrays) -> None:
        """Refuse a scale or a mean that no step before leads to (H21)."""
        names = (SCALE,) if step == 1 else (SCALE, MEAN)
        found = [shared.get(name, np.zeros(0)) for name in names]
        have_form = all(values.shape == (self.n_channels,) for values in found)
        if (
            not have_form
            or not np.isin(found[0], _POWERS).all()
            or not np.isfinite(found[-1]).all()
        ):
            fix = "run the version of fedmri that the server runs; else ask the coordinator"
            what, want = f"scale and mean in step {step}", "a power of two, and a number"
            raise HarmonizeError("H21", what, found="others", want=want, fix=fix)

    def _octaves(self, data: Iterable[Image]) -> NDArray[np.float64]:
        counts = np.zeros((self.n_channels, len(_POWERS)))
        for image in data:
            for channel in range(self.n_channels):
                sizes = np.abs(image[channel][image[channel] != 0]).astype(np.float64)
                found = np.searchsorted(_POWERS, sizes, side="left")
                counts[channel] += np.bincount(found, minlength=len(_POWERS))
        return counts


class Scaled:
    """Maps images by one centre and one spread a channel, the same for all images.

    Air stays 0, and so does a channel whose spread is 0.

    Args:
        centre: Value that becomes 0, shape ``(C,)``.
        spread: Distance that becomes 1, shape ``(C,)``.
    """

    def __init__(self, centre: NDArray[np.float64], spread: NDArray[np.float64]) -> None:
        self._centre, self._spread = centre, spread

    def __call__(self, key: str, whole: Image, part: Image) -> Image:
        """Return a part of a scan, scaled; its channels are in groups of the scan's ``whole``."""
        n_each = len(part) // len(whole)
        out = np.zeros_like(part)
        for place, values in enumerate(part):
            channel = place // n_each
            if self._spread[channel] > 0:
                head = values != 0
                apart = values[head].astype(np.float64) - self._centre[channel]
                out[place][head] = apart / self._spread[channel]
        return out

"""Federated Nyúl: the landmarks of a standard histogram, from exact sums over sites.

Nyúl, Udupa and Zhang 2000, New variants of a method of MRI scale standardization,
doi:10.1109/42.836373. The percentiles, and which of them are used, are those of TorchIO's
``HistogramStandardization``, whose pooled training this equals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.sums import Arrays

PERCENTILES = np.array([1, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 99], dtype=np.float64)
USED = np.array([0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12])
"""Landmarks that the map goes through: TorchIO leaves the quartiles 25 and 75 out."""
WIDTH = 100.0
"""Length of the standard scale between the first and the last landmark."""
NORMAL_IQR = 1.349
"""Distance of the quartiles of a unit normal."""
NARROW = 1e-9
"""Share of an image's own scale below which two percentiles are the same."""
LANDMARKS, N_IMAGES, N_SKIPPED = "landmarks", "n_images", "n_skipped"

Image = NDArray[np.float32]
"""Channels of an image, shape ``(C, D, H, W)``; air and missing modalities are 0."""


@dataclass(frozen=True)
class NyulSums:
    """The landmarks as a stage of sums; see ``fedmri.harmonize.sums``.

    The head is where a channel is not 0. Landmarks do not depend on an image's own scale, so images
    may be z-scored before or not. A channel without contrast (absent, or constant) is skipped and
    counted.

    Attributes:
        n_channels: Channels of an image; each has landmarks of its own.
        is_site_weighted: Whether each site counts the same, whatever its number of images.
    """

    n_channels: int
    is_site_weighted: bool = False
    n_steps: int = 1

    def site_sums(self, step: int, data: Iterable[Image], shared: Arrays) -> Arrays:
        """Return sums of the images' standardised percentiles, and their numbers, by channel."""
        total = np.zeros((self.n_channels, len(PERCENTILES)))
        n_images, n_skipped = np.zeros(self.n_channels), np.zeros(self.n_channels)
        for image in data:
            for channel in range(self.n_channels):
                standard = standard_percentiles(image[channel][image[channel] != 0])
                if standard is None:
                    n_skipped[channel] += 1
                else:
                    total[channel] += standard
                    n_images[channel] += 1
        if self.is_site_weighted:
            total /= np.maximum(n_images, 1)[:, None]
            n_images = np.minimum(n_images, 1)
        return {LANDMARKS: total, N_IMAGES: n_images, N_SKIPPED: n_skipped}

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return the mean landmarks, shape ``(C, 13)``.

        Raises:
            HarmonizeError: A channel has no image with contrast at any site (H20).
        """
        empty = np.flatnonzero(total[N_IMAGES] < 1)
        if len(empty):
            fix = "look at that modality's images: `fedmri data check` names the empty ones"
            what = f"landmarks of channel {int(empty[0])}"
            want = "one image with contrast at any site"
            raise HarmonizeError("H20", what, found="none", want=want, fix=fix)
        return {LANDMARKS: total[LANDMARKS] / total[N_IMAGES][:, None]}


def standard_percentiles(head: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Return an image's percentiles on a scale of 0 to 100, or None where it has no contrast.

    Args:
        head: Intensities inside the head, shape ``(n,)``.
    """
    own = _percentiles(head)
    if own is None:
        return None
    standard: NDArray[np.float64] = WIDTH * (own - own[0]) / (own[-1] - own[0])
    return standard


class Standardised:
    """Maps images so that their percentiles lie at the landmarks, on a scale for networks.

    Between landmarks the map is linear, beyond the outer ones it goes on. What comes out is centred
    at the landmark of the median and scaled by those of the quartiles, the same for all images. Air
    stays 0, and so does a channel without contrast.

    Args:
        parameters: What the stage was fitted to.
    """

    def __init__(self, parameters: Arrays) -> None:
        self._landmarks = parameters[LANDMARKS]
        self._own: dict[str, tuple[NDArray[np.float64] | None, ...]] = {}

    def __call__(self, key: str, whole: Image, part: Image) -> Image:
        """Return a part of a scan, standardised by the percentiles of the whole.

        Args:
            key: Names the scan: its percentiles are computed once.
            whole: The scan, shape ``(C, …)``.
            part: The scan or slices of it; its channels are in groups of the scan's, one a slice.
        """
        if key not in self._own:
            self._own[key] = tuple(_percentiles(channel[channel != 0]) for channel in whole)
        n_each = len(part) // len(whole)
        out = np.zeros_like(part)
        for place, values in enumerate(part):
            channel = place // n_each
            own = self._own[key][channel]
            if own is not None:
                out[place] = self._mapped(values, own, self._landmarks[channel])
        return out

    def _mapped(
        self, values: Image, own: NDArray[np.float64], landmarks: NDArray[np.float64]
    ) -> Image:
        head = values != 0
        mapped = map_through(values[head].astype(np.float64), own[USED], landmarks[USED])
        middle, spread = landmarks[6], (landmarks[9] - landmarks[3]) / NORMAL_IQR
        out = np.zeros_like(values)
        out[head] = (mapped - middle) / (spread if spread > 0 else 1.0)
        return out


def map_through(
    values: NDArray[np.float64], own: NDArray[np.float64], standard: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return values under the line through the points ``(own, standard)``.

    Where two points have the same ``own``, the piece between them is flat, as in TorchIO, whose own
    limit of 1e-5 flattens whole images of small numbers.
    """
    widths = np.diff(own)
    is_flat = widths <= NARROW * (own[-1] - own[0])
    slopes = np.diff(standard) / np.where(is_flat, np.inf, widths)
    piece = np.digitize(values, own[1:-1])
    mapped: NDArray[np.float64] = standard[piece] + slopes[piece] * (values - own[piece])
    return mapped


def _percentiles(head: NDArray[np.float32]) -> NDArray[np.float64] | None:
    if not head.size:
        return None
    found: NDArray[np.float64] = np.percentile(head, PERCENTILES).astype(np.float64)
    size = max(abs(found[0]), abs(found[-1]))
    return found if found[-1] - found[0] > NARROW * size else None

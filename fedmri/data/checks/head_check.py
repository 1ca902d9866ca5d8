"""Whether the estimate of a head can be trusted, and whether a label lies in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmri.data.preparation.head import Mask, find_head, thinning

N_VOXELS, N_PIXELS = 60_000, 10_000
"""Of a volume and of a picture, on which a head is looked at; preparation takes all."""
PLAUSIBLE = (0.05, 0.95)
"""Share of an image that a head takes: less is a part of it, more leaves hardly any air."""
OUTSIDE = 0.01
"""Share of a label that may lie outside the head without a word."""


@dataclass(frozen=True)
class HeadLook:
    """The estimated head of an image, on thinned-out voxels.

    Attributes:
        mask: True inside the head.
        steps: Voxels of the image from one of the mask's to the next, by axis.
    """

    mask: Mask
    steps: tuple[int, ...]

    def share_finding(self, modality: str) -> str | None:
        """Return what is to be said of the head's share of the image, if anything."""
        share = float(self.mask.mean())
        if PLAUSIBLE[0] <= share <= PLAUSIBLE[1] or self.mask.all():  # a crop may hold no air
            return None
        least, most = PLAUSIBLE
        return (
            f"{modality}: the head is {share:.1%} of the image, usual are {least:.0%} to {most:.0%}"
        )

    def label_finding(self, modality: str, name: str, labels: np.ndarray) -> str | None:
        """Return what is to be said of a label map on the image's grid, if anything."""
        places = np.nonzero(labels)
        thin = [
            np.minimum(place // step, size - 1)
            for place, step, size in zip(places, self.steps, self.mask.shape, strict=True)
        ]
        outside = ~self.mask[tuple(thin)]
        if not outside.size or outside.mean() <= OUTSIDE:
            return None
        return (
            f"{name}: {outside.mean():.1%} of its voxels lie outside the head that {modality} shows"
        )


def look_at_head(values: np.ndarray) -> HeadLook:
    """Return the head of an image, shape ``(D, H, W)`` or ``(H, W)``, not constant."""
    volume = values if values.ndim == 3 else values[..., None]
    few = thinning(volume, N_VOXELS if values.ndim == 3 else N_PIXELS)
    mask = find_head(volume[few]).mask.reshape(values[few[: values.ndim]].shape)
    return HeadLook(mask, tuple(each.step for each in few[: values.ndim]))

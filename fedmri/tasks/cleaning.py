"""Rules by which small parts of a predicted label map are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Rule:
    """Which connected parts of a class are kept.

    Attributes:
        least_ml: Volume of the smallest part that is kept; of an image, 0.1 ml are 1 cm2.
        is_largest: Whether the largest part alone is kept.
    """

    least_ml: float = 0.0
    is_largest: bool = False

    def cleaned(self, labels: Labels, spacing_mm: Sequence[float]) -> Labels:
        """Return a label map without the other parts; voxels that touch at a corner are one part.

        Args:
            labels: Classes from 1, background 0.
            spacing_mm: Voxel size along each axis.
        """
        if self == Rule():
            return labels
        found = labels.copy()
        thick = [mm for mm, n in zip(spacing_mm, labels.shape, strict=True) if n > 1]
        per_voxel = np.prod(thick) / 1000  # of an image 1 mm thick: a hundredth of a cm2
        for value in np.unique(labels[labels > 0]):
            parts, _ = ndimage.label(labels == value, np.ones([3] * labels.ndim))
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            kept = sizes * per_voxel >= self.least_ml
            if self.is_largest:
                kept = np.arange(len(sizes)) == sizes.argmax()
            found[(parts > 0) & ~kept[parts]] = 0
        return found


RULES = (Rule(), Rule(0.01), Rule(0.1), Rule(0.3), Rule(1.0), Rule(is_largest=True))
"""What is tried: the first changes nothing."""

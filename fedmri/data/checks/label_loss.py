"""What preparation loses of a label map: voxels, lesions, and the best score that is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from fedmri.data.preparation.native import Native
from fedmri.data.preparation.regrid import ALL_NEIGHBOURS, one_hot

WARNED_SHARE = 0.01
"""Share of a scan's label voxels whose loss is worth a warning."""


@dataclass(frozen=True)
class LabelLoss:
    """The prepared label map, brought back to the scan's own grid, against the whole truth.

    Attributes:
        n_voxels: Voxels of any class.
        n_lost: Those that come back as another class or as background.
        n_lesions: Connected parts of the truth, all classes together.
        n_lost_lesions: Those of which no voxel comes back.
        ceiling: Dice of the round trip, mean over classes: what a perfect prediction scores.
    """

    n_voxels: int
    n_lost: int
    n_lesions: int
    n_lost_lesions: int
    ceiling: float

    @property
    def share(self) -> float:
        """Share of the label's voxels that are lost; 0 where there are none."""
        return self.n_lost / self.n_voxels if self.n_voxels else 0.0

    @property
    def is_worth_a_warning(self) -> bool:
        """Whether more is lost than rounding explains."""
        return self.share > WARNED_SHARE or self.n_lost_lesions > 0

    @property
    def sentence(self) -> str:
        """What is lost, in words."""
        lesions = f"{self.n_lost_lesions} of {self.n_lesions} lesions"
        return (
            f"preparation loses {100 * self.share:.1f} % of the label and {lesions}: "
            f"a perfect prediction scores Dice {self.ceiling:.3f}"
        )

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> LabelLoss:
        """Return what ``vars`` gave; raise TypeError where it is something else."""
        return cls(**row)


def label_loss(label: np.ndarray, native: Native, n_classes: int) -> LabelLoss:
    """Return what is lost on the way to the prepared label map and back.

    Args:
        label: Prepared label map, shape ``(D, H, W)`` or ``(H, W)``.
        native: The scan's own grid.
        n_classes: Classes without background.
    """
    used = label[None] if native.slices is None else label[list(native.slices)]
    shares = np.stack([one_hot(part, n_classes) for part in used])
    truth, back = native.truth(), native.restored(shares)
    is_there = truth > 0
    near = ALL_NEIGHBOURS[0] if truth.ndim == 2 else ALL_NEIGHBOURS
    parts, n_parts = ndimage.label(is_there, near)
    n_kept = len(np.unique(parts[is_there & (back > 0)]))
    return LabelLoss(
        n_voxels=int(is_there.sum()),
        n_lost=int((is_there & (back != truth)).sum()),
        n_lesions=int(n_parts),
        n_lost_lesions=int(n_parts) - n_kept,
        ceiling=float(np.mean([_dice(back == k, truth == k) for k in range(1, 1 + n_classes)])),
    )


def _dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    n_both = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / n_both if n_both else 1.0

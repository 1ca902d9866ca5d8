"""Edge directions on a coarse grid, which nobody learns, and one linear layer on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import require
from fedmri.models.model import IMAGE
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FixedFeatures:
    """Histograms of edge directions by cell, of length 1 together, and a linear layer.

    Six directions are spread evenly over the plane or space. The source has nine directions,
    overlapping blocks and images alone.

    Attributes:
        n_cells: Cells along each axis of an image.
    """

    n_cells: int = 4

    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    multiple: ClassVar[int] = 1
    source: ClassVar[str] = "Dalal and Triggs 2005, doi:10.1109/CVPR.2005.177"

    def __post_init__(self) -> None:
        require(self.n_cells >= 1, "model.n_cells", self.n_cells, "1 or more")

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.histograms import EdgeHistograms, fixed_features

        return fixed_features(EdgeHistograms(sizes.n_dims, self.n_cells), sizes)

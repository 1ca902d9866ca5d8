"""Histograms of intensities, which nobody learns, and one linear layer on them."""

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
class IntensityFeatures:
    """Shares of voxels by intensity in the whole image and in its middle, and a linear layer.

    In a T1-weighted brain they say how much of it is fluid, gray and white matter. They are few,
    so that noise for privacy leaves much of them.

    Attributes:
        n_bins: Bins of a histogram.
    """

    n_bins: int = 12

    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    multiple: ClassVar[int] = 1
    source: ClassVar[str] = "Arandjelovic and Zisserman 2012, doi:10.1109/CVPR.2012.6248018"
    left_open: ClassVar[str] = "The source takes roots of histograms of edges, not of intensities."

    def __post_init__(self) -> None:
        require(self.n_bins >= 2, "model.n_bins", self.n_bins, "2 or more")

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.histograms import IntensityHistograms, fixed_features

        return fixed_features(IntensityHistograms(sizes.n_dims, self.n_bins), sizes)

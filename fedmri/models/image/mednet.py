"""MedNet: depthwise separable residual blocks with attention to channels and places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class MedNet(NormedWithDropout):
    """Four stages; channels double and sides halve from stage to stage.

    The source leaves widths and the number of blocks open. Ours has two blocks a stage.
    """

    width: int = 32

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "MedNet, doi:10.1038/s41598-025-25857-w; CBAM: Woo et al. 2018, arXiv:1807.06521"
    )

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.separable import separable_network

        return separable_network([self.width * 2**i for i in range(4)], sizes, self.dropout)

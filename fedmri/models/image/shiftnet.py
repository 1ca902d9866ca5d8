"""ShiftNet: channels are moved by one voxel, and mixed by convolutions of 1 alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ShiftNet(NormedWithDropout):
    """Four stages of two units; channels double and sides halve from stage to stage.

    A shift has no weights and no arithmetic. The widths and depth of the paper are larger.
    """

    width: int = 32

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Wu et al. 2018, arXiv:1711.08141"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.shifted import shift_network

        return shift_network([self.width * 2**i for i in range(4)], sizes, self.dropout)

"""ShuffleNet V2: half of the channels pass each unit, and are shuffled after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ShuffleNet(NormedWithDropout):
    """The network "1x" of the paper: 4, 8 and 4 units."""

    width: int = 24

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Ma et al. 2018, arXiv:1807.11164"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.shuffled import shuffle_network

        return shuffle_network(self.width, sizes, self.dropout)

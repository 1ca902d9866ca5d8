"""EfficientNet B0 to B8: one network, wider and deeper from size to size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class EfficientNet(NormedWithDropout):
    """``dropout`` is the rate of the last layer and of dropped connections.

    Attributes:
        size: Size by the paper's name. The width of 32 grows with it.
    """

    width: int = 32
    size: Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8"] = "b4"

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Tan and Le 2019, arXiv:1905.11946"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.inverted import efficient_network

        return efficient_network(self.size, self.width, sizes, self.dropout)

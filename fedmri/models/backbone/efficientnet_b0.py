"""EfficientNet-B0: inverted residual blocks with squeeze and excitation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class EfficientNetB0(NormedWithDropout):
    """``dropout`` is the rate of the last layer and of dropped connections; the paper took 0.2.

    For larger ones take ``efficientnet``.
    """

    width: int = 32

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Tan and Le 2019, arXiv:1905.11946"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.inverted import efficient_network

        return efficient_network("b0", self.width, sizes, self.dropout)

"""ResNet of 18 to 152 layers: residual blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.models.model import APART_BY_NORM, IMAGE, Normed
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ResNet(Normed):
    """With projection shortcuts. Up to 34 layers a block has two convolutions, above three.

    Attributes:
        depth: Layers with weights; 18 is the network ``resnet18``.
    """

    width: int = 64
    depth: Literal[18, 34, 50, 101, 152] = 50

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "He et al. 2016, arXiv:1512.03385"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.residual import residual_network

        return residual_network(self.depth, self.width, sizes)

"""SE-ResNet: a ResNet whose blocks scale their channels by squeeze and excitation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.models.model import APART_BY_NORM, IMAGE, Normed
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SENet(Normed):
    """Each block squeezes its channels to a sixteenth.

    Attributes:
        depth: Layers with weights.
    """

    width: int = 64
    depth: Literal[18, 34, 50, 101, 152] = 50

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Hu et al. 2018, arXiv:1709.01507"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.residual import residual_network, squeeze_and_excite

        network = residual_network(self.depth, self.width, sizes)
        squeeze_and_excite(network, sizes.n_dims)
        return network

"""CNN9: eight convolutions of 4 x 4 and one linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CNN9(NormedWithDropout):
    """Channels 48, 96, 144 and 192, two convolutions each: 1.8 million parameters in 2D.

    Max pooling of 4 follows the first two pairs, so images need 16 voxels along each axis.
    The source leaves the widths, the order of layers and the padding open.
    """

    width: int = 48

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "a 9-layer network of a review: kernels and pooling of 4, 1.8 million parameters"
    )

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.even import even_network

        widths = [self.width * i for i in (1, 2, 3, 4)]
        return even_network(widths, sizes, self.dropout)

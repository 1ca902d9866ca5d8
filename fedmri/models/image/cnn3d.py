"""CNN3D: four blocks of convolution, norm, ReLU and max pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CNN3D(NormedWithDropout):
    """Channels 8, 16, 32 and 64 and a hidden layer of 512: 108 thousand parameters in 3D.

    Images need 16 voxels along each axis.
    """

    width: int = 8

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "a common reference network; no paper of its own"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.blocks import block, classifier

        widths = [self.width * 2**i for i in range(4)]
        inputs = [sizes.n_channels, *widths[:-1]]
        blocks = [
            block(sizes.n_dims, n_in, n_out, is_pooled=True)
            for n_in, n_out in zip(inputs, widths, strict=True)
        ]
        return classifier(blocks, (widths[-1], 512, sizes.n_outputs), self.dropout, sizes.n_dims)

"""CNN5: three convolutions and two linear layers, the smallest network there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CNN5(NormedWithDropout):
    """Channels 32, 64 and 128, with max pooling after the first two.

    Global average pooling and a hidden layer of 64 follow. Each convolution has a norm layer.
    """

    width: int = 32

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "a common reference network; no paper of its own"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.blocks import block, classifier

        width, n_dims = self.width, sizes.n_dims
        blocks = [
            block(n_dims, sizes.n_channels, width, is_pooled=True),
            block(n_dims, width, 2 * width, is_pooled=True),
            block(n_dims, 2 * width, 4 * width, is_pooled=False),
        ]
        return classifier(blocks, (4 * width, 2 * width, sizes.n_outputs), self.dropout, n_dims)

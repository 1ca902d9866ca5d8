"""VGG of 11 to 19 layers: convolutions of 3 and poolings, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions before each pooling."""


@dataclass(frozen=True)
class VGG(NormedWithDropout):
    """Each convolution has a norm layer. Images need 32 voxels along each axis.

    The three dense layers of the paper hold 124 of its 138 million parameters. Ours are global
    average pooling, a hidden layer and one of outputs.

    Attributes:
        depth: Layers with weights in the paper.
    """

    width: int = 64
    depth: Literal[11, 13, 16, 19] = 16

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Simonyan and Zisserman 2015, arXiv:1409.1556"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.blocks import block, classifier

        blocks, n_in = [], sizes.n_channels
        for i, n_layers in enumerate(_STAGES[self.depth]):
            for j in range(n_layers):
                n_out, is_last = self.width * min(2**i, 8), j == n_layers - 1
                blocks.append(block(sizes.n_dims, n_in, n_out, is_pooled=is_last))
                n_in = n_out
        return classifier(blocks, (n_in, n_in, sizes.n_outputs), self.dropout, sizes.n_dims)

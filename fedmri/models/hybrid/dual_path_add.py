"""Two branches of one image, VGG-19 and a small CNN, whose features are added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DualPathAdd(NormedWithDropout):
    """VGG-19 for what the whole image shows, four blocks of a CNN for what small parts show.

    Each branch is pooled to 8 x width features. Every convolution has a norm layer, which VGG had
    not. The source does not give the layers of its small branch: these are ours. Images need 32
    voxels along each axis.

    Attributes:
        width: Channels of VGG's first stage; the source has 64 (21 million parameters in 2D).
        joint: How the branches are joined: ``add`` or ``concat``.
    """

    width: int = 16
    joint: Literal["add", "concat"] = "add"

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "the dual branch D2CBTN, as a review tells it; VGG-19 of Simonyan and Zisserman 2015, "
        "arXiv:1409.1556"
    )

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from torch import nn

        from fedmri.models.hybrid_layers.encoders import VGG19, pyramid, to_vector, vgg
        from fedmri.models.hybrid_layers.joined import TwoBranches, head

        n_dims, n_features = sizes.n_dims, 8 * self.width
        widths = [self.width * 2**i for i in range(4)]
        deep = nn.Sequential(vgg(n_dims, sizes.n_channels, self.width, VGG19), to_vector(n_dims))
        small = nn.Sequential(pyramid(n_dims, sizes.n_channels, widths), to_vector(n_dims))
        n_joined = n_features * (1 if self.joint == "add" else 2)
        last = head(n_joined, n_features, sizes.n_outputs, self.dropout)
        return TwoBranches(deep, small, self.joint, last)

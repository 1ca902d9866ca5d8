"""VGG-16 beside a vision transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_PATCH, _N_HEADS = 16, 12


@dataclass(frozen=True)
class VGG16ViT(NormedWithDropout):
    """VGG-16 without its linear layers, and ViT-B/16; both end in 8 x width features.

    Attributes:
        width: Channels of VGG's first stage and of a head of attention. 64 gives VGG-16 and
            ViT-B/16 as published: 101 million parameters, 0.4 GB a round and site.
        joint: How the branches are joined: ``add`` or ``concat``.
        n_blocks: Blocks of the transformer; ViT-B has 12.
    """

    width: int = 16
    joint: Literal["add", "concat"] = "concat"
    n_blocks: int = 12

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    multiple: ClassVar[int] = _PATCH
    source: ClassVar[str] = (
        "VGG-16 of Simonyan and Zisserman 2015, arXiv:1409.1556, with ViT-B/16 of Dosovitskiy et "
        "al. 2021, arXiv:2010.11929"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_blocks >= 1, "model.n_blocks", self.n_blocks, "1 or more")

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.vit import ViT
        from torch import nn

        from fedmri.models.hybrid_layers.encoders import VGG16, to_vector, vgg
        from fedmri.models.hybrid_layers.joined import TwoBranches, ViTFeatures, head

        n_dims, n_features, n_token = sizes.n_dims, 8 * self.width, _N_HEADS * self.width
        deep = nn.Sequential(vgg(n_dims, sizes.n_channels, self.width, VGG16), to_vector(n_dims))
        vit = ViT(
            in_channels=sizes.n_channels,
            img_size=sizes.shape,
            patch_size=_PATCH,
            hidden_size=n_token,
            mlp_dim=4 * n_token,
            num_layers=self.n_blocks,
            num_heads=_N_HEADS,
            classification=True,
            dropout_rate=self.dropout,
            spatial_dims=n_dims,
            post_activation="",
        )
        seen = nn.Sequential(
            ViTFeatures(vit, is_of_patches=False), nn.Linear(n_token, n_features), nn.ReLU()
        )
        n_joined = n_features * (1 if self.joint == "add" else 2)
        last = head(n_joined, n_features, sizes.n_outputs, self.dropout)
        return TwoBranches(deep, seen, self.joint, last)

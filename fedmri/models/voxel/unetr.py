"""UNETR: a vision transformer as the encoder of a U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, VOXEL, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_TOKEN, _HEAD = 48, 64


@dataclass(frozen=True)
class UNETR(NormedWithDropout):
    """A width of 16 has the tokens of ViT-B/16, 768 channels in 12 heads.

    It learns a place for each token, so that images of one size alone go through it. Its width is
    a multiple of 4.
    """

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = VOXEL
    multiple: ClassVar[int] = 16
    source: ClassVar[str] = "Hatamizadeh et al. 2022, arXiv:2103.10504"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % 4 == 0, "model.width", self.width, "a multiple of 4 for unetr")

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets import unetr

        from fedmri.models.blocks import drop_cross_attention

        n_token = _TOKEN * self.width
        network = unetr.UNETR(
            in_channels=sizes.n_channels,
            out_channels=sizes.n_outputs,
            img_size=sizes.shape,
            feature_size=self.width,
            hidden_size=n_token,
            mlp_dim=4 * n_token,
            num_heads=n_token // _HEAD,
            norm_name="batch",
            dropout_rate=self.dropout,
            spatial_dims=sizes.n_dims,
        )
        drop_cross_attention(network.vit)
        return network

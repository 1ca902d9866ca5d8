"""EfficientNet-B0: inverted residual blocks with squeeze and excitation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


# Table 1 of the paper: repeats, kernel, stride, expansion, channels in and out, squeeze.
_BLOCKS = (
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
)


@dataclass(frozen=True)
class EfficientNetB0(NormedWithDropout):
    """``dropout`` is the rate of the last layer and of dropped connections; the paper took 0.2."""

    width: int = 32

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Tan and Le 2019, arXiv:1905.11946"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.efficientnet import EfficientNet

        return EfficientNet(
            list(_BLOCKS),
            spatial_dims=sizes.n_dims,
            in_channels=sizes.n_channels,
            num_classes=sizes.n_outputs,
            width_coefficient=self.width / 32,
            dropout_rate=self.dropout,
            drop_connect_rate=self.dropout,
            image_size=max(sizes.shape) or 224,
        )

"""ResNet-18: residual blocks of two convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, Normed
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ResNet18(Normed):
    """With projection shortcuts.

    MONAI's own default for ResNet-18 pads with zeros and cuts the gradient of the shortcut off.
    """

    width: int = 64

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "He et al. 2016, arXiv:1512.03385"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.resnet import ResNet

        return ResNet(
            block="basic",
            layers=[2, 2, 2, 2],
            block_inplanes=[self.width * 2**i for i in range(4)],
            spatial_dims=sizes.n_dims,
            n_input_channels=sizes.n_channels,
            num_classes=sizes.n_outputs,
            conv1_t_size=7,
            conv1_t_stride=2,
            shortcut_type="B",
            bias_downsample=False,
        )

"""U-Net: a residual encoder and decoder of five levels with skip connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, VOXEL, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


LEVELS = 5


@dataclass(frozen=True)
class UNet(NormedWithDropout):
    """Channels double from level to level."""

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = VOXEL
    multiple: ClassVar[int] = 16
    source: ClassVar[str] = "Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.unet import UNet as Network

        return Network(
            **sizes.ports,
            channels=[self.width * 2**i for i in range(LEVELS)],
            strides=(2,) * (LEVELS - 1),
            num_res_units=2,
            norm="batch",
            dropout=self.dropout,
        )

"""Attention U-Net: gates choose what skip connections pass on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, VOXEL, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class AttentionUNet(NormedWithDropout):
    """Five levels; channels double from level to level."""

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = VOXEL
    multiple: ClassVar[int] = 16
    source: ClassVar[str] = "Oktay et al. 2018, arXiv:1804.03999"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.attentionunet import AttentionUnet

        return AttentionUnet(
            **sizes.ports,
            channels=[self.width * 2**i for i in range(5)],
            strides=(2, 2, 2, 2),
            dropout=self.dropout,
        )

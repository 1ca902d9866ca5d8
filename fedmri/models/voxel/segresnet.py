"""SegResNet: a residual encoder and a small decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, VOXEL, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SegResNet(NormedWithDropout):
    """Without the autoencoder of the paper.

    Upsampling is learned: that of interpolation has no deterministic gradient on GPUs.
    """

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = VOXEL
    multiple: ClassVar[int] = 8
    source: ClassVar[str] = "Myronenko 2018, arXiv:1810.11654"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.segresnet import SegResNet as Network

        return Network(
            **sizes.ports,
            init_filters=self.width,
            dropout_prob=self.dropout or None,
            norm="batch",
            upsample_mode="deconv",
        )

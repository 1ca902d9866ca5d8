"""The encoder of the U-Net with a last layer: it can start from a trained U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class UNetEncoder(NormedWithDropout):
    """Five levels, global average pooling and one linear layer.

    Its entries have the names and shapes of those of ``unet``, so a file of one starts the other.
    """

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    multiple: ClassVar[int] = 16
    source: ClassVar[str] = "Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40 (its encoder)"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.blocks import answering, downwards
        from fedmri.models.voxel.unet import LEVELS, UNet

        whole = UNet(width=self.width, dropout=self.dropout).layers(sizes).get_submodule("model")
        n_features = self.width * 2 ** (LEVELS - 1)
        return answering({"model": downwards(whole)}, n_features, sizes, self.dropout)

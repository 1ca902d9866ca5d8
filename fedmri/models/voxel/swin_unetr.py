"""Swin UNETR: a transformer with shifted windows as the encoder of a U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, VOXEL, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SwinUNETR(NormedWithDropout):
    """Its width is a multiple of 12."""

    width: int = 24

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = VOXEL
    multiple: ClassVar[int] = 32
    source: ClassVar[str] = "Hatamizadeh et al. 2022, arXiv:2201.01266"

    def __post_init__(self) -> None:
        super().__post_init__()
        width = self.width
        require(width % 12 == 0, "model.width", width, "a multiple of 12 for swin_unetr")

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.swin_unetr import SwinUNETR as Network

        return Network(
            **sizes.ports, feature_size=self.width, norm_name="batch", drop_rate=self.dropout
        )

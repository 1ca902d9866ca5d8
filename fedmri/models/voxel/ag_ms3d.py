"""AG-MS3D: residual blocks of several scales, gates on skip connections, deep supervision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, VOXEL, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_N_LEVELS = 5


@dataclass(frozen=True)
class AGMS3D(NormedWithDropout):
    """Five levels; each block sees its input through filters of 1, 3 and 5.

    The source leaves widths and scales open. It samples 50 predictions with dropout, which needs
    a ``dropout`` above 0; its module for domain adaptation is not here.

    Attributes:
        heads: Coarser levels with an answer of their own in training; 0 has none.
    """

    heads: int = 2

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = VOXEL
    multiple: ClassVar[int] = 2 ** (_N_LEVELS - 1)
    source: ClassVar[str] = "Lilhore et al. 2025, doi:10.1038/s41598-025-09351-x"

    def __post_init__(self) -> None:
        super().__post_init__()
        most = _N_LEVELS - 2
        require(0 <= self.heads <= most, "model.heads", self.heads, f"0 to {most}")

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.decoders.gated import GatedUNet

        widths = [self.width * 2**i for i in range(_N_LEVELS)]
        return GatedUNet(sizes, widths, self.heads, self.dropout)

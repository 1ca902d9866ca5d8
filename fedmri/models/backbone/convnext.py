"""ConvNeXt: convolutions with the layout of a transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.claims import Claim, Claims
from fedmri.models.model import IMAGE, LayerNormed
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ConvNeXt(LayerNormed):
    """Four stages, whose norm is layer norm alone. Images need 32 voxels along each axis.

    Blocks are never dropped as a whole, as the paper does in training.

    Attributes:
        size: Blocks in the third of four stages: 9 or 27, and 3 in the others.
    """

    size: Literal["tiny", "small"] = "tiny"

    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Liu et al. 2022, arXiv:2201.03545"

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.modern import modern_network

        depths = (3, 3, 9 if self.size == "tiny" else 27, 3)
        return modern_network(self.width, depths, sizes, self.dropout)

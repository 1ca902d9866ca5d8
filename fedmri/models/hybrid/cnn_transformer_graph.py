"""Convolutions, a transformer and a parcel graph over one map of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.of_slices import require_heads
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_N_BLOCKS, _N_HEADS = 4, 4


@dataclass(frozen=True)
class CNNTransformerGraph(NormedWithDropout):
    """A network for brain age: the mean of its features, tokens and parcels are joined.

    With ``dropout`` above 0, ``fedmri explain`` gives the spread of each patient's value over
    networks with other values left out. The source does not give its layers: these are ours.
    Images need 16 voxels along each axis.

    Attributes:
        width: Channels of the first of four blocks; later ones double.
        n_blocks: Blocks of the transformer.
        n_parcels: Learned parcels.
    """

    width: int = 8
    n_blocks: int = 2
    n_parcels: int = 16

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "after NeuroAgeFusionNet 2025, doi:10.1038/s41598-025-26211-w; dropout as uncertainty of "
        "Gal and Ghahramani 2016, arXiv:1506.02142"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_blocks >= 1, "model.n_blocks", self.n_blocks, "1 or more")
        require(self.n_parcels >= 2, "model.n_parcels", self.n_parcels, "2 or more")
        require_heads("model.width", 8 * self.width, _N_HEADS)

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.hybrid_layers.encoders import pyramid
        from fedmri.models.hybrid_layers.joined import GraphView, MeanToken, ThreeViews, head
        from fedmri.models.hybrid_layers.parcels import ParcelGraph, Parcels
        from fedmri.models.hybrid_layers.tokens import TokenEncoder

        n_dims, widths = sizes.n_dims, [self.width * 2**i for i in range(_N_BLOCKS)]
        last = widths[-1]
        features = pyramid(n_dims, sizes.n_channels, widths)
        encoder = TokenEncoder(last, self.n_blocks, _N_HEADS, self.dropout)
        parcels = Parcels("learned", n_dims, last, self.n_parcels)
        return ThreeViews(
            features,
            MeanToken(last, encoder, last),
            GraphView(parcels, ParcelGraph(last, last)),
            head(3 * last, last, sizes.n_outputs, self.dropout),
            n_dims,
        )

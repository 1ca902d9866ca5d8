"""2.5D: a CNN on every slice with its neighbours, pooled over the volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, IMAGE
from fedmri.models.of_slices import OfSlices
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SlicePool(OfSlices):
    """Four blocks of a CNN a slice; the volume is the mean of its slices, plain or weighted.

    Attributes:
        width: Channels of the first block; later ones double.
        pooling: ``mean``, or ``attention``: weights that are learned, and that
            ``fedmri explain`` shows.
        n_neighbours: Slices on each side that join a slice as channels.
    """

    width: int = 8
    pooling: Literal["mean", "attention"] = "attention"
    n_neighbours: int = 1

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "attention of Ilse, Tomczak and Welling 2018, arXiv:1802.04712"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_neighbours >= 0, "model.n_neighbours", self.n_neighbours, "0 or more")

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from torch import nn

        from fedmri.models.hybrid_layers.encoders import pyramid, to_vector
        from fedmri.models.hybrid_layers.joined import Sequence, head
        from fedmri.models.hybrid_layers.slices import AttentionPool, MeanPool, SliceReader

        widths = [self.width * 2**i for i in range(4)]
        n_channels, last = sizes.n_channels * (1 + 2 * self.n_neighbours), widths[-1]
        flat = nn.Sequential(pyramid(2, n_channels, widths), to_vector(2))
        reader = SliceReader(flat, self.slice_axis, self.n_neighbours)
        pool = AttentionPool(last, last) if self.pooling == "attention" else MeanPool()
        return Sequence(reader, pool, head(last, last, sizes.n_outputs, self.dropout))

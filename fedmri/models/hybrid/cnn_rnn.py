"""A CNN on every slice, and a GRU or LSTM over the slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.models.model import APART_BY_NORM, IMAGE, require_width
from fedmri.models.of_slices import OfSlices
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_KERNELS = (1, 3, 5)


@dataclass(frozen=True)
class CNNRNN(OfSlices):
    """Three convolutions of 1, 3 and 5, and a memory that goes over slices in order.

    The memory decays with the interval between items. In a volume each interval is one slice. In
    Python the network also takes intervals, such as the years between visits.

    Attributes:
        width: Channels of the first convolution; the next ones double it.
        cell: ``gru`` or ``lstm``.
        hidden_width: Features of the memory.
    """

    width: int = 8
    cell: Literal["gru", "lstm"] = "gru"
    hidden_width: int = 128

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "GRU of Cho et al. 2014, arXiv:1406.1078; LSTM of Hochreiter and Schmidhuber 1997, "
        "doi:10.1162/neco.1997.9.8.1735; decay of Che et al. 2018, doi:10.1038/s41598-018-24271-9"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_width(self.hidden_width)

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from torch import nn

        from fedmri.models.hybrid_layers.encoders import growing, to_vector
        from fedmri.models.hybrid_layers.joined import Sequence
        from fedmri.models.hybrid_layers.recurrent import Recurrent
        from fedmri.models.hybrid_layers.slices import SliceReader

        widths = [self.width * 2**i for i in range(3)]
        flat = nn.Sequential(growing(sizes.n_channels, widths, _KERNELS), to_vector(2))
        memory = Recurrent(self.cell, widths[-1], self.hidden_width)
        head = nn.Sequential(
            nn.Dropout(self.dropout), nn.Linear(self.hidden_width, sizes.n_outputs)
        )
        return Sequence(SliceReader(flat, self.slice_axis), memory, head)

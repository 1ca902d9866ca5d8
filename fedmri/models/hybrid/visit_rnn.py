"""A CNN on the images of every visit, and a GRU or LSTM over the visits of a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.claims import Claim, Claims, Need, Needs
from fedmri.errors import ConfigError
from fedmri.models.model import IMAGE, NormedWithDropout, apart_by_norm, require_width
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class VisitRNN(NormedWithDropout):
    """Four blocks of a CNN, the same for all visits, and a memory that decays with the years.

    A visit that is missing changes nothing. Columns of ``data.source.covariates`` join the memory
    before the last layers. Images need 16 voxels along each axis.

    Attributes:
        width: Channels of the first block; later ones double.
        cell: ``gru`` or ``lstm``.
        hidden_width: Features of the memory.
    """

    width: int = 8
    cell: Literal["gru", "lstm"] = "gru"
    hidden_width: int = 64

    needs: ClassVar[Needs] = frozenset({Need.VISITS})
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "GRU of Cho et al. 2014, arXiv:1406.1078; decay with irregular intervals of Che et al. "
        "2018, doi:10.1038/s41598-018-24271-9, and Baytas et al. 2017, doi:10.1145/3097983.3097997"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_width(self.hidden_width)

    @property
    def claims(self) -> Claims:
        """It reads intervals, and keeps patients apart unless its norm mixes them."""
        return apart_by_norm(self) | {Claim.READS_COVARIATES}

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from torch import nn

        from fedmri.models.hybrid_layers.encoders import pyramid, to_vector
        from fedmri.models.hybrid_layers.joined import VisitsInOrder, head
        from fedmri.models.hybrid_layers.recurrent import Recurrent

        n_others = sizes.n_covariates - 2 * sizes.n_visits
        if n_others < 0:
            what, want = "model visit_rnn", "the intervals of visits beside images"
            fix = "set data.source.visits, or take another model"
            raise ConfigError("C20", what, found="images alone", want=want, fix=fix)
        widths = [self.width * 2**i for i in range(4)]
        trunk = pyramid(sizes.n_dims, sizes.n_channels // sizes.n_visits, widths)
        image = nn.Sequential(trunk, to_vector(sizes.n_dims))
        memory = Recurrent(self.cell, widths[-1], self.hidden_width)
        n_joined = self.hidden_width + n_others
        last = head(n_joined, self.hidden_width, sizes.n_outputs, self.dropout)
        return VisitsInOrder(image, memory, last, sizes.n_visits)

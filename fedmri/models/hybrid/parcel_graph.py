"""A graph network over parcels of the brain, without sparse matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout, require_width
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ParcelGraph(NormedWithDropout):
    """Two blocks of a CNN, parcels as nodes, and two graph convolutions.

    Edges are the positive correlations of the nodes' features. In Python the network also takes
    the parcels of an atlas, and edges such as functional connectivity.

    Attributes:
        width: Channels of the first block; the second doubles them.
        parcels: ``learned`` assigns places to parcels by their features; ``grid`` cuts blocks.
        n_parcels: Parcels; of ``grid``, blocks along each axis.
        hidden_width: Features of a node.
    """

    width: int = 8
    parcels: Literal["learned", "grid"] = "learned"
    n_parcels: int = 16
    hidden_width: int = 32

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "Kipf and Welling 2017, arXiv:1609.02907; learned parcels after Ying et al. 2018, "
        "arXiv:1806.08804"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_width(self.hidden_width)
        require(self.n_parcels >= 2, "model.n_parcels", self.n_parcels, "2 or more")

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.hybrid_layers.encoders import pyramid
        from fedmri.models.hybrid_layers.joined import GraphNetwork, head
        from fedmri.models.hybrid_layers.parcels import ParcelGraph as Graph
        from fedmri.models.hybrid_layers.parcels import Parcels

        widths = [self.width, 2 * self.width]
        features = pyramid(sizes.n_dims, sizes.n_channels, widths)
        parcels = Parcels(self.parcels, sizes.n_dims, widths[-1], self.n_parcels)
        graph = Graph(widths[-1], self.hidden_width)
        last = head(self.hidden_width, self.hidden_width, sizes.n_outputs, self.dropout)
        return GraphNetwork(features, parcels, graph, last)

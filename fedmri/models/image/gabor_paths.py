"""Gabor paths: fixed Gabor filters, convolutions of three sizes, and fuzzy clusters as the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class GaborPaths(NormedWithDropout):
    """Memberships of fuzzy c-means in place of hidden layers, and one linear layer of outputs.

    The centres of the clusters are weights: sites train them, and the server averages them.
    The source leaves widths, filters and clusters open.

    Attributes:
        clusters: Clusters of features.
        fuzziness: Exponent ``m`` of fuzzy c-means, above 1. Near 1 an image has one cluster.
    """

    width: int = 16
    clusters: int = 16
    fuzziness: float = 2.0

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "RECNN of a review: a Gabor transform, several paths, fuzzy c-means for dense layers; "
        "Bezdek 1981, doi:10.1007/978-1-4757-0450-1"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.clusters >= 2, "model.clusters", self.clusters, "2 or more")
        require(self.fuzziness > 1, "model.fuzziness", self.fuzziness, "a number above 1")

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.gabor import gabor_network

        return gabor_network(self.width, (self.clusters, self.fuzziness), sizes, self.dropout)

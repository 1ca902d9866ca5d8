"""An image and the patient's row of the table, joined late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims, Need, Needs
from fedmri.errors import ConfigError
from fedmri.models.model import IMAGE, NormedWithDropout, apart_by_norm, require_width
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ImageTableFusion(NormedWithDropout):
    """A CNN of four blocks beside two dense layers for covariates; their features are joined.

    The covariates are those of ``data.source.covariates``. Images need 16 voxels along each axis.
    The source leaves the layers of its table branch open: these are ours.

    Attributes:
        width: Channels of the first block; later ones double.
        table_width: Features of each layer that reads covariates.
    """

    width: int = 8
    table_width: int = 16

    needs: ClassVar[Needs] = frozenset({Need.COVARIATES})
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "late fusion, after Huang et al. 2020, doi:10.1038/s41746-020-00341-z"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_width(self.table_width)

    @property
    def claims(self) -> Claims:
        """It reads covariates, and keeps patients apart unless its norm mixes them."""
        return apart_by_norm(self) | {Claim.READS_COVARIATES}

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from torch import nn

        from fedmri.models.hybrid_layers.encoders import dense, pyramid, to_vector
        from fedmri.models.hybrid_layers.joined import ImageAndTable, head

        if not sizes.n_covariates:
            what, want = "model image_table_fusion", "covariates beside images"
            fix = "set data.source.covariates, or take another model"
            raise ConfigError("C20", what, found="images alone", want=want, fix=fix)
        widths = [self.width * 2**i for i in range(4)]
        trunk = pyramid(sizes.n_dims, sizes.n_channels, widths)
        image = nn.Sequential(trunk, to_vector(sizes.n_dims))
        table = dense(sizes.n_covariates, (self.table_width, self.table_width))
        n_joined = widths[-1] + self.table_width
        return ImageAndTable(
            image, table, head(n_joined, widths[-1], sizes.n_outputs, self.dropout)
        )

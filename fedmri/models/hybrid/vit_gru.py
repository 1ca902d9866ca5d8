"""Patches of a vision transformer, and a GRU over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import require
from fedmri.models.model import IMAGE, require_dropout, require_width
from fedmri.models.of_slices import require_heads
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_PATCH, _N_HEADS = 16, 4


@dataclass(frozen=True)
class ViTGRU:
    """A small ViT whose patches a GRU reads in order; its norm is layer norm alone.

    Attributes:
        width: Channels of a token, in four heads.
        n_blocks: Blocks of the transformer.
        hidden_width: Features of the GRU.
        dropout: Share of values that are left out in training.
    """

    width: int = 192
    n_blocks: int = 6
    hidden_width: int = 128
    dropout: float = 0.0

    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    multiple: ClassVar[int] = _PATCH
    source: ClassVar[str] = (
        "ViT of Dosovitskiy et al. 2021, arXiv:2010.11929; GRU of Cho et al. 2014, arXiv:1406.1078"
    )

    def __post_init__(self) -> None:
        require_dropout(self.dropout)
        require_width(self.hidden_width)
        require_heads("model.width", self.width, _N_HEADS)
        require(self.n_blocks >= 1, "model.n_blocks", self.n_blocks, "1 or more")

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.vit import ViT
        from torch import nn

        from fedmri.models.hybrid_layers.joined import TokensInOrder, ViTFeatures
        from fedmri.models.hybrid_layers.recurrent import Recurrent

        vit = ViT(
            in_channels=sizes.n_channels,
            img_size=sizes.shape,
            patch_size=_PATCH,
            hidden_size=self.width,
            mlp_dim=4 * self.width,
            num_layers=self.n_blocks,
            num_heads=_N_HEADS,
            dropout_rate=self.dropout,
            spatial_dims=sizes.n_dims,
        )
        memory = Recurrent("gru", self.width, self.hidden_width, is_timed=False)
        head = nn.Sequential(
            nn.Dropout(self.dropout), nn.Linear(self.hidden_width, sizes.n_outputs)
        )
        return TokensInOrder(ViTFeatures(vit, is_of_patches=True), memory, head)

"""DenseNet-121 on every slice, and a transformer over the slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, IMAGE
from fedmri.models.of_slices import OfSlices, require_heads
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_N_HEADS = 4


@dataclass(frozen=True)
class DenseNet121Transformer(OfSlices):
    """Features of 2D slices become tokens; the mean of what comes of them goes to the head.

    A volume is the unit of training, so all slices of a patient count together.

    Attributes:
        width: Channels of DenseNet's first layer; the source has 64. Growth is half of it.
        token_width: Channels of a token, in four heads.
        n_blocks: Blocks of the transformer.
    """

    width: int = 32
    token_width: int = 128
    n_blocks: int = 2

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "DenseNet-121 of Huang et al. 2017, arXiv:1608.06993; transformer of Vaswani et al. 2017, "
        "arXiv:1706.03762"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_blocks >= 1, "model.n_blocks", self.n_blocks, "1 or more")
        require_heads("model.token_width", self.token_width, _N_HEADS)

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.densenet import DenseNet121
        from torch import nn

        from fedmri.models.hybrid_layers.joined import MeanToken, Sequence, densenet_features
        from fedmri.models.hybrid_layers.slices import SliceReader
        from fedmri.models.hybrid_layers.tokens import TokenEncoder

        network = DenseNet121(
            2,
            sizes.n_channels,
            sizes.n_outputs,
            init_features=self.width,
            growth_rate=max(1, self.width // 2),
            dropout_prob=self.dropout,
        )
        flat, n_features = densenet_features(network)
        encoder = TokenEncoder(self.token_width, self.n_blocks, _N_HEADS, self.dropout)
        over = MeanToken(n_features, encoder, self.token_width)
        head = nn.Linear(self.token_width, sizes.n_outputs)
        return Sequence(SliceReader(flat, self.slice_axis), over, head)

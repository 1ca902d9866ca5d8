"""A DenseNet with self-attention over places after its deeper blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_LAYERS = (4, 4, 4)
"""Of each dense block."""


@dataclass(frozen=True)
class DenseNetAttention(NormedWithDropout):
    """Three dense blocks of four layers; self-attention follows the second and the third.

    The source leaves the number of layers and channels open: these are ours. ``dropout`` drops
    whole channels of a layer, as the source does.
    """

    width: int = 16

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = (
        "DenseNet of Huang et al. 2017, arXiv:1608.06993; non-local blocks of Wang et al. 2018, "
        "arXiv:1711.07971"
    )

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.densenet import DenseNet

        from fedmri.models.hybrid_layers.attention import with_attention

        network = DenseNet(
            **sizes.ports,
            init_features=self.width,
            growth_rate=max(1, self.width // 2),
            block_config=_LAYERS,
            dropout_prob=self.dropout,
        )
        return with_attention(network, sizes.n_dims, ("denseblock2", "denseblock3"))

"""DenseNet-121: every layer sees all layers before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DenseNet121(NormedWithDropout):
    """Growth is half of the width."""

    width: int = 64

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Huang et al. 2017, arXiv:1608.06993"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from monai.networks.nets.densenet import DenseNet121 as Network

        return Network(
            **sizes.ports,
            init_features=self.width,
            growth_rate=max(1, self.width // 2),
            dropout_prob=self.dropout,
        )

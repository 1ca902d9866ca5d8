"""Dual path: two small networks with filters of 3 and of 5, whose features are joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.models.model import APART_BY_NORM, IMAGE, NormedWithDropout
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DualPath(NormedWithDropout):
    """Three blocks a path; the path of 3 pools by maxima and that of 5 by means.

    The source leaves the number of blocks and their widths open.

    Attributes:
        fusion: How the features of both paths are joined: side by side, or as their sum.
    """

    width: int = 32
    fusion: Literal["concat", "add"] = "concat"

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "El-Assy et al. 2024, doi:10.1038/s41598-024-53733-6"

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.paths import Paths

        widths = [self.width * 2**i for i in range(3)]
        return Paths(widths, sizes, self.dropout, is_summed=self.fusion == "add")

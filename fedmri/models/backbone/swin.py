"""Swin transformer: attention within windows that shift from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fedmri.claims import Claim, Claims
from fedmri.errors import require
from fedmri.models.model import IMAGE, LayerNormed
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_HEAD = 32


@dataclass(frozen=True)
class Swin(LayerNormed):
    """Windows and patches of the paper: 7 and 4 along each axis. Heads have 32 channels.

    Attributes:
        size: Layers in the third of four stages: 6 or 18, and 2 in the others.
    """

    size: Literal["tiny", "small"] = "tiny"

    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    source: ClassVar[str] = "Liu et al. 2021, arXiv:2103.14030"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % _HEAD == 0, "model.width", self.width, f"a multiple of {_HEAD}")

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.layers.windows import window_network

        depths = (2, 2, 6 if self.size == "tiny" else 18, 2)
        return window_network(self.width, self.width // _HEAD, depths, sizes, self.dropout)

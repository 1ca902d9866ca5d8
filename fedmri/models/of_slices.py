"""What networks share that go over the slices of a volume, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.errors import require
from fedmri.models.model import NormedWithDropout
from fedmri.models.sizes import Sizes

if TYPE_CHECKING:
    from torch import nn

VOLUMES: tuple[int, ...] = (3,)
"""Spatial dimensions of a network that reads volumes alone."""


@dataclass(frozen=True)
class OfSlices(NormedWithDropout):
    """A network that sees each slice of a volume by itself.

    Attributes:
        slice_axis: Axis of the volume that is gone along, 0 to 2 in canonical (RAS) orientation.
    """

    slice_axis: int = 2

    n_dims: ClassVar[tuple[int, ...]] = VOLUMES

    def __post_init__(self) -> None:
        super().__post_init__()
        is_axis = self.slice_axis in (0, 1, 2)
        require(is_axis, "model.slice_axis", self.slice_axis, "0, 1 or 2")

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network with the norm of choice, whose layers see flat slices."""
        from fedmri.models.norm import set_norm

        network = self.layers(sizes)
        set_norm(network, self.norm, 2)
        return network


def require_heads(name: str, width: int, n_heads: int) -> None:
    """Refuse channels that heads of attention cannot share equally (C01)."""
    require(width >= 1 and width % n_heads == 0, name, width, f"a multiple of {n_heads}")

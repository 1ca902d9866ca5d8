"""What a network is built for: the sizes that the data and the target fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network's input and output.

    Attributes:
        shape: Spatial size of an image, in voxels; two numbers or three.
        n_channels: Channels of an image.
        n_outputs: Classes, background and classes, or one value.
    """

    shape: tuple[int, ...]
    n_channels: int
    n_outputs: int

    @property
    def n_dims(self) -> int:
        """Spatial dimensions, 2 or 3."""
        return len(self.shape)

    @property
    def ports(self) -> dict[str, Any]:
        """The sizes as most of MONAI's networks call them."""
        return {
            "spatial_dims": self.n_dims,
            "in_channels": self.n_channels,
            "out_channels": self.n_outputs,
        }

"""What a network is built for: the sizes that the data and the target fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedmri.errors import ConfigError


@dataclass(frozen=True)
class Sizes:
    """Sizes of a network's input and output.

    Attributes:
        shape: Spatial size of an image, in voxels; two numbers or three.
        n_channels: Channels of an image.
        n_outputs: Classes, background and classes, or one value.
        n_covariates: Numbers of the patient that come with an image; those of visits are the last.
        n_visits: Visits of a patient whose channels follow each other in an image.
    """

    shape: tuple[int, ...]
    n_channels: int
    n_outputs: int
    n_covariates: int = 0
    n_visits: int = 1

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


def require_multiples(name: str, multiples: Sequence[int], sizes: Sizes) -> None:
    """Refuse images whose sides a network cannot halve as often as it does.

    Args:
        name: Name of the model.
        multiples: What each side must be a multiple of.
        sizes: Sizes of the images; a side of 0 differs from scan to scan.

    Raises:
        ConfigError: A side is none, or not known where that matters (C21).
    """
    pairs = list(zip(sizes.shape, multiples, strict=True))
    is_known = set(multiples) == {1} or 0 not in sizes.shape
    if not is_known or any(side % multiple for side, multiple in pairs):
        near = tuple(-(-side // multiple) * multiple for side, multiple in pairs)
        told = multiples[0] if len(set(multiples)) == 1 else tuple(multiples)
        want = f"sides that are multiples of {told}"
        size = f"{near}" if is_known else "such a size"
        fix = f"set data.prepare.size or data.prepare.shape to {size}, or take another model"
        raise ConfigError("C21", f"images for {name}", found=f"{sizes.shape}", want=want, fix=fix)

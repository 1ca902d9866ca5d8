"""OneLayer: the mean of each channel, and one linear layer on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fedmri.claims import Claim, Claims
from fedmri.models.model import IMAGE
from fedmri.models.sizes import Sizes
from fedmri.round import Answer


@dataclass(frozen=True)
class OneLayer:
    """A network that sees nothing but how bright an image is.

    Attributes:
        width: Channels of a hidden layer.
    """

    width: int = 4

    claims: ClassVar[Claims] = frozenset({Claim.PATIENTS_APART})
    kinds: ClassVar[tuple[Answer, ...]] = IMAGE
    multiple: ClassVar[int] = 1
    source: ClassVar[str] = "made for a test"

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        pool = nn.AdaptiveAvgPool2d(1) if sizes.n_dims == 2 else nn.AdaptiveAvgPool3d(1)
        hidden = nn.Linear(sizes.n_channels, self.width)
        return nn.Sequential(
            pool, nn.Flatten(1), hidden, nn.ReLU(), nn.Linear(self.width, sizes.n_outputs)
        )

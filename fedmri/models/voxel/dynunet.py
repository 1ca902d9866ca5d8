"""DynUNet: a U-Net whose kernels and strides follow from the voxels of the data, as in nnU-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.errors import require
from fedmri.models.model import APART_BY_NORM, VOXEL, NormedWithDropout
from fedmri.models.sizes import Sizes, require_multiples
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

_MOST = {2: 512, 3: 320}
"""Most channels of a level, by dimensions."""
_DEFAULT = (1, 2, 2, 2, 2)


@dataclass(frozen=True)
class DynUNet(NormedWithDropout):
    """``fedmri.models.planning`` plans the strides and kernels of nnU-Net from sums over sites.

    Without them there are five levels with kernels of 3. Channels double up to 320 in 3D and 512
    in 2D.

    Attributes:
        strides: Stride into each level, a number for each axis, the first 1. Empty: 2 for all.
        kernels: Kernel of each level, a number for each axis. Empty: 3 for all.
        heads: Coarser levels with an answer of their own in training; 0 has none.
        is_residual: Whether blocks of the encoder have shortcuts.
    """

    width: int = 32
    strides: tuple[tuple[int, ...], ...] = ()
    kernels: tuple[tuple[int, ...], ...] = ()
    heads: int = 2
    is_residual: bool = False

    claims = APART_BY_NORM
    kinds: ClassVar[tuple[Answer, ...]] = VOXEL
    source: ClassVar[str] = "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z"

    def __post_init__(self) -> None:
        super().__post_init__()
        n = len(self.strides or _DEFAULT)
        require(n >= 3, "model.strides", self.strides, "3 levels or more, or none")
        is_even = not self.kernels or len(self.kernels) == n
        require(is_even, "model.kernels", self.kernels, f"one for each of {n} levels")
        numbers = [k for one in self.kernels for k in one]
        require(all(k % 2 for k in numbers), "model.kernels", self.kernels, "odd numbers")
        numbers = [s for one in self.strides for s in one]
        require(all(s >= 1 for s in numbers), "model.strides", self.strides, "numbers of 1 or more")
        is_first = not self.strides or set(self.strides[0]) == {1}
        require(is_first, "model.strides", self.strides, "1 for all axes of the first level")
        require(0 <= self.heads < n - 1, "model.heads", self.heads, f"0 to {n - 2}")

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network."""
        from fedmri.models.decoders.planned import Levels, PlannedUNet

        n_dims = sizes.n_dims
        strides = self.strides or tuple((s,) * n_dims for s in _DEFAULT)
        kernels = self.kernels or ((3,) * n_dims,) * len(strides)
        for name, steps in (("strides", strides), ("kernels", kernels)):
            is_whole = all(len(one) == n_dims for one in steps)
            require(is_whole, f"model.{name}", steps, f"{n_dims} numbers a level")
        require_multiples("dynunet", _products(strides), sizes)
        widths = level_widths(self.width, len(strides), n_dims)
        shape = Levels(widths, kernels, strides, self.heads, self.is_residual)
        return PlannedUNet(sizes, shape, self.dropout)


def level_widths(width: int, n_levels: int, n_dims: int) -> tuple[int, ...]:
    """Return the channels of each level: doubled, up to 320 in 3D and 512 in 2D."""
    return tuple(min(width * 2**level, _MOST[n_dims]) for level in range(n_levels))


def _products(strides: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    total = [1] * len(strides[0])
    for stride in strides:
        total = [a * b for a, b in zip(total, stride, strict=True)]
    return tuple(total)

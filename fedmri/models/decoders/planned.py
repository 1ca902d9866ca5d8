"""A U-Net whose kernels and strides are given level by level, from blocks of MONAI's DynUNet."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock, UnetUpBlock
from torch import nn

from fedmri.models.decoders.supervised import Answers
from fedmri.models.sizes import Sizes

_SLOPE = 0.01


@dataclass(frozen=True)
class Levels:
    """Shape of a planned U-Net, from the image down.

    Attributes:
        widths: Channels of each level.
        kernels: Kernel of each level, one number for each axis.
        strides: Stride into each level; that of the first is 1.
        n_heads: Levels below the finest with an answer of their own in training.
        is_residual: Whether blocks of the encoder have shortcuts.
    """

    widths: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    n_heads: int
    is_residual: bool


class PlannedUNet(nn.Module):
    """MONAI's own class holds each block twice: every weight would travel under two names."""

    def __init__(self, sizes: Sizes, levels: Levels, dropout: float) -> None:
        super().__init__()
        n_dims = sizes.n_dims
        act = ("leakyrelu", {"negative_slope": _SLOPE})
        parts: dict[str, Any] = {"norm_name": "batch", "act_name": act, "dropout": dropout or None}
        down = UnetResBlock if levels.is_residual else UnetBasicBlock
        ports = list(pairwise([sizes.n_channels, *levels.widths]))
        steps = list(zip(ports, levels.kernels, levels.strides, strict=True))
        self.encoder = nn.ModuleList(
            down(n_dims, *port, kernel, stride, **parts) for port, kernel, stride in steps
        )
        self.decoder = nn.ModuleList(
            UnetUpBlock(n_dims, n_out, n_in, kernel, stride, stride, **parts)
            for (n_in, n_out), kernel, stride in reversed(steps[1:])
        )
        self.answers = Answers(n_dims, levels.widths[: 1 + levels.n_heads], sizes.n_outputs)
        self.apply(_begin)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits; see ``Answers``."""
        skips: list[torch.Tensor] = []
        x = image
        for block in self.encoder:
            skips.append(x := block(x))
        found = []
        for block, skip in zip(self.decoder, reversed(skips[:-1]), strict=True):
            found.append(x := block(x, skip))
        answers: torch.Tensor = self.answers(found[::-1])
        return answers


def _begin(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

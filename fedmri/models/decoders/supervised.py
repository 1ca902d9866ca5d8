"""Deep supervision: answers of coarse levels beside that of the finest, in training alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn


def stacked(outputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the answers of all levels at the size of the first, shape ``(B, L, K, *shape)``.

    Args:
        outputs: Logits ``(B, K, *shape)``, the finest first. Sides of the others divide its sides.
    """
    sides = outputs[0].shape[2:]
    enlarged = [outputs[0]]
    for one in outputs[1:]:
        enlarged.append(_enlarged(one, [a // b for a, b in zip(sides, one.shape[2:], strict=True)]))
    return torch.stack(enlarged, 1)


def _enlarged(x: torch.Tensor, factors: Sequence[int]) -> torch.Tensor:
    """Repeat voxels: unlike that of interpolation, the gradient is deterministic on GPUs."""
    for axis, factor in enumerate(factors, 2):
        shape = [-1] * (x.ndim + 1)
        shape[axis + 1] = factor
        x = x.unsqueeze(axis + 1).expand(shape).flatten(axis, axis + 1)
    return x


class Answers(nn.Module):
    """Logits of the finest level; in training, with heads, those of coarser levels beside them.

    A loss takes ``(B, L, K, *shape)`` as answers of L levels, the finest first.
    """

    def __init__(self, n_dims: int, widths: Sequence[int], n_outputs: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, n_dims]
        self.heads = nn.ModuleList(conv(n, n_outputs, 1) for n in widths[1:])
        self.out = conv(widths[0], n_outputs, 1)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return logits of features, the finest level first."""
        finest: torch.Tensor = self.out(levels[0])
        if not (self.training and self.heads):
            return finest
        coarse = [head(x) for head, x in zip(self.heads, levels[1:], strict=False)]
        return stacked([finest, *coarse])

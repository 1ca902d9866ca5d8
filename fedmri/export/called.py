"""An exported model as a network again: what compares and scores it needs no other door."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Call = Callable[[torch.Tensor], torch.Tensor]


class Called(nn.Module):
    """Runs a model of another format on the CPU; it has no gradients and no modes.

    Args:
        call: From images ``(B, C, *shape)`` to raw outputs.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call
        # whoever scores a network asks its first parameter where it is
        self.place = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the raw outputs of images."""
        return self._call(image.cpu())

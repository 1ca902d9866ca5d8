"""A transformer over items in order, of any number."""

from __future__ import annotations

import math

import torch
from monai.networks.blocks.transformerblock import TransformerBlock
from torch import nn

_LONGEST = 10_000.0


class TokenEncoder(nn.Module):
    """MONAI's transformer blocks over ``(B, S, F)``; where an item stands is added as waves.

    Source:
        Vaswani et al. 2017, arXiv:1706.03762 (section 3.5); layer norm comes first.
    """

    def __init__(self, n_features: int, n_layers: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TransformerBlock(n_features, 2 * n_features, n_heads, dropout) for _ in range(n_layers)
        )
        for each in self.blocks:
            each.norm_cross_attn = nn.Identity()  # it would travel every round, never trained
        self.norm = nn.LayerNorm(n_features)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Return the items, each with what it sees in the others."""
        found = items + waves(items)
        for each in self.blocks:
            found = each(found)
        normed: torch.Tensor = self.norm(found)
        return normed


def waves(items: torch.Tensor) -> torch.Tensor:
    """Return sines and cosines that tell where each of the items ``(…, S, F)`` stands."""
    n_items, n_features = items.shape[-2:]
    number = torch.arange(n_items, device=items.device, dtype=items.dtype)[:, None]
    pair = torch.arange(n_features, device=items.device)
    rate = torch.exp(-math.log(_LONGEST) * (2 * (pair // 2)).to(items.dtype) / n_features)
    return torch.where(pair % 2 == 0, torch.sin(number * rate), torch.cos(number * rate))


def as_tokens(features: torch.Tensor) -> torch.Tensor:
    """Return the places of a map ``(B, F, *shape)`` as items ``(B, S, F)``."""
    return features.flatten(2).transpose(1, 2)

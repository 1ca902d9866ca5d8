"""A U-Net of residual blocks with several scales, whose skip connections pass through gates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv
from monai.networks.nets.attentionunet import AttentionBlock
from torch import nn

from fedmri.models.blocks import conv_norm
from fedmri.models.decoders.supervised import Answers
from fedmri.models.sizes import Sizes


class GatedUNet(nn.Module):
    """Encoder and decoder of multiscale blocks; what is coarser gates what is finer."""

    def __init__(self, sizes: Sizes, widths: Sequence[int], n_heads: int, dropout: float) -> None:
        super().__init__()
        n_dims = sizes.n_dims
        conv, up = Conv[Conv.CONV, n_dims], Conv[Conv.CONVTRANS, n_dims]
        pairs = list(pairwise(widths))
        self.first = MultiscaleBlock(n_dims, sizes.n_channels, widths[0], dropout)
        self.encoder = nn.ModuleList(
            nn.Sequential(conv(a, b, 2, stride=2), MultiscaleBlock(n_dims, b, b, dropout))
            for a, b in pairs
        )
        pairs.reverse()
        self.up = nn.ModuleList(up(b, a, 2, stride=2) for a, b in pairs)
        self.gates = nn.ModuleList(AttentionBlock(n_dims, max(1, a // 2), a, a) for a, _ in pairs)
        self.decoder = nn.ModuleList(MultiscaleBlock(n_dims, 2 * a, a, dropout) for a, _ in pairs)
        self.answers = Answers(n_dims, widths[: 1 + n_heads], sizes.n_outputs)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits; see ``Answers``."""
        skips = [self.first(image)]
        for block in self.encoder:
            skips.append(block(skips[-1]))
        x, found = skips.pop(), []
        for up, gate, block in zip(self.up, self.gates, self.decoder, strict=True):
            x = up(x)
            x = block(torch.cat([gate(x, skips.pop()), x], 1))
            found.append(x)
        answers: torch.Tensor = self.answers(found[::-1])
        return answers


class MultiscaleBlock(nn.Module):
    """Filters of 1, of 3, and of 5 as two of 3, joined by one of 1, beside a shortcut."""

    def __init__(self, n_dims: int, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        n = max(1, n_out // 2)
        self.point = conv_norm(n_dims, n_in, n, 1)
        self.small = conv_norm(n_dims, n_in, n, 3)
        self.large = conv_norm(n_dims, n, n, 3)
        self.join = conv_norm(n_dims, 3 * n, n_out, 1)
        is_same = n_in == n_out
        self.shortcut: nn.Module = nn.Identity() if is_same else conv_norm(n_dims, n_in, n_out, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of features, of the same sides."""
        small = self.small(x).relu()
        scales = [self.point(x).relu(), small, self.large(small).relu()]
        total = self.join(torch.cat(scales, 1)) + self.shortcut(x)
        kept: torch.Tensor = self.dropout(total.relu())
        return kept

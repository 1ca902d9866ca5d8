"""The Swin transformer of MONAI as it is in the paper, with a head for classes or values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from fedmri.models.sizes import Sizes

_WINDOW, _PATCH = 7, 4


def window_network(
    width: int, n_heads: int, depths: Sequence[int], sizes: Sizes, dropout: float
) -> nn.Module:
    """Return four stages, layer norm, the mean over tokens and one linear layer.

    Args:
        width: Channels of the first stage; they double from stage to stage.
        n_heads: Heads of the first stage; they double too.
        depths: Layers of each stage.
        sizes: Sizes of input and output.
        dropout: Dropout rate.
    """
    body = SwinTransformer(
        in_chans=sizes.n_channels,
        embed_dim=width,
        window_size=[_WINDOW] * sizes.n_dims,
        patch_size=[_PATCH] * sizes.n_dims,
        depths=depths,
        num_heads=[n_heads * 2**i for i in range(4)],
        drop_rate=dropout,
        patch_norm=True,
        spatial_dims=sizes.n_dims,
        downsample="mergingv2",
    )
    # MONAI halves the sides once more after the last stage, for the bottom of a U-Net.
    setattr(body.layers4[0], "downsample", None)  # noqa: B010  # typed as a module
    return _Tokens(body, 8 * width, sizes.n_outputs)


class _Tokens(nn.Module):
    def __init__(self, body: SwinTransformer, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.body = body
        self.norm = nn.LayerNorm(n_features)
        self.out = nn.Linear(n_features, n_outputs)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.body(image, normalize=False)[-1].flatten(2).transpose(1, 2)
        outputs: torch.Tensor = self.out(self.norm(tokens).mean(1))
        return outputs

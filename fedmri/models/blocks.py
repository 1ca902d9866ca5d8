"""Layers that models of fedmri are put together from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from fedmri.models.sizes import Sizes

if TYPE_CHECKING:
    from monai.networks.nets.vit import ViT

# torch's own: MONAI names them by dimensions too, but takes seconds to import in every process
_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_MEAN = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


def block(n_dims: int, n_in: int, n_out: int, *, is_pooled: bool) -> nn.Module:
    """Return a convolution with norm and ReLU, and max pooling where asked for."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = _CONV[n_dims](n_in, n_out, kernel_size=3, padding=1)
    layers["norm"] = _NORM[n_dims](n_out)
    layers["relu"] = nn.ReLU()
    if is_pooled:
        layers["pool"] = _MAX_POOL[n_dims](2)
    return nn.Sequential(layers)


def classifier(
    blocks: list[nn.Module], widths: tuple[int, int, int], dropout: float, n_dims: int
) -> nn.Module:
    """Return blocks, global average pooling, a hidden layer and one of outputs.

    Args:
        blocks: Made by ``block``.
        widths: Features of the last block, hidden features, and outputs.
        dropout: Rate before the last layer.
        n_dims: Spatial dimensions, 2 or 3.
    """
    n_features, n_hidden, n_outputs = widths
    layers = OrderedDict((f"block{i}", block) for i, block in enumerate(blocks, 1))
    layers["pool"] = _MEAN[n_dims](1)
    layers["flatten"] = nn.Flatten(1)
    layers["hidden"] = nn.Linear(n_features, n_hidden)
    layers["relu"] = nn.ReLU()
    layers["dropout"] = nn.Dropout(dropout)
    layers["out"] = nn.Linear(n_hidden, n_outputs)
    return nn.Sequential(layers)


def conv_norm(  # noqa: PLR0913  # the numbers of a convolution
    n_dims: int, n_in: int, n_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Module:
    """Return a convolution that keeps the sides but for its stride, and a norm."""
    padding = kernel // 2
    return nn.Sequential(
        _CONV[n_dims](
            n_in, n_out, kernel, stride=stride, padding=padding, groups=groups, bias=False
        ),
        _NORM[n_dims](n_out),
    )


def answering(
    layers: Mapping[str, nn.Module], n_features: int, sizes: Sizes, dropout: float
) -> nn.Module:
    """Return layers, global average pooling and one linear layer of outputs.

    Args:
        layers: By name, in their order.
        n_features: Channels of the last of them.
        sizes: Sizes of input and output.
        dropout: Rate before the linear layer.
    """
    tail: dict[str, nn.Module] = {
        "pool": _MEAN[sizes.n_dims](1),
        "flatten": nn.Flatten(1),
        "dropout": nn.Dropout(dropout),
        "out": nn.Linear(n_features, sizes.n_outputs),
    }
    return nn.Sequential(OrderedDict(layers) | OrderedDict(tail))


def drop_cross_attention(network: ViT) -> None:
    """Take out norms that only cross attention would use: they would travel, never trained."""
    for block in network.blocks:
        block.norm_cross_attn = nn.Identity()


class TokenHead(nn.Module):
    """MONAI's ViT without the hidden states that it returns and the norms that it never uses."""

    def __init__(self, network: ViT) -> None:
        super().__init__()
        drop_cross_attention(network)
        self.vit = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return outputs of images."""
        logits: torch.Tensor = self.vit(image)[0]
        return logits


def downwards(level: nn.Module) -> nn.Module:
    """Return a level of a U-Net and all below it without the way up; names of entries stay.

    Args:
        level: ``UNet.model`` of MONAI: a block, what lies below it, and a block of the way up. The
            lowest level is a block alone.
    """
    if not isinstance(level, nn.Sequential):
        return level
    block, below, _ = level
    return nn.Sequential(block, _Below(downwards(below.get_submodule("submodule"))))


class _Below(nn.Module):
    """What MONAI's skip connection holds, without the skip."""

    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features of the lowest level."""
        lowest: torch.Tensor = self.submodule(features)
        return lowest

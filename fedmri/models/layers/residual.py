"""Residual networks of MONAI by their depth, and squeeze and excitation in their blocks."""

from __future__ import annotations

from monai.networks.blocks.squeeze_and_excitation import ChannelSELayer
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck
from torch import nn

from fedmri.models.sizes import Sizes

_BLOCKS = {
    18: ("basic", [2, 2, 2, 2]),
    34: ("basic", [3, 4, 6, 3]),
    50: ("bottleneck", [3, 4, 6, 3]),
    101: ("bottleneck", [3, 4, 23, 3]),
    152: ("bottleneck", [3, 8, 36, 3]),
}
_SQUEEZE = 16


def residual_network(depth: int, width: int, sizes: Sizes) -> ResNet:
    """Return a ResNet of 18, 34, 50, 101 or 152 layers, with batch norm.

    MONAI's own default for ResNet-18 pads with zeros and cuts the gradient of the shortcut off.
    """
    block, n_blocks = _BLOCKS[depth]
    return ResNet(
        block=block,
        layers=n_blocks,
        block_inplanes=[width * 2**i for i in range(4)],
        spatial_dims=sizes.n_dims,
        n_input_channels=sizes.n_channels,
        num_classes=sizes.n_outputs,
        conv1_t_size=7,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
    )


def squeeze_and_excite(network: ResNet, n_dims: int) -> None:
    """Let each block scale its channels by their means, before the shortcut is added; in place."""
    for block in network.modules():
        if isinstance(block, ResNetBottleneck):
            block.bn3 = _squeezed(block.bn3, block.conv3.out_channels, n_dims)
        elif isinstance(block, ResNetBlock):
            block.bn2 = _squeezed(block.bn2, block.conv2.out_channels, n_dims)


def _squeezed(norm: nn.Module, n_channels: int, n_dims: int) -> nn.Module:
    return nn.Sequential(norm, ChannelSELayer(n_dims, n_channels, r=min(_SQUEEZE, n_channels)))

"""Two small reference networks for image-level targets, in 2D and 3D."""

from __future__ import annotations

from collections import OrderedDict

from monai.networks.layers.factories import Conv, Norm, Pool
from torch import nn

from fedmri.models.settings import ModelConfig
from fedmri.models.sizes import Sizes


def cnn5(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return three convolutions and two linear layers: the smallest network of the registry.

    Channels 32, 64 and 128, max pooling after the first two, global average pooling, a hidden
    layer of 64. A norm layer follows each convolution.

    Args:
        config: ``width`` is the channels of the first block.
        sizes: Input and output.
    """
    width = config.width or 32
    blocks = [
        _block(sizes.n_dims, sizes.n_channels, width, is_pooled=True),
        _block(sizes.n_dims, width, 2 * width, is_pooled=True),
        _block(sizes.n_dims, 2 * width, 4 * width, is_pooled=False),
    ]
    return _network(blocks, (4 * width, 2 * width, sizes.n_outputs), config.dropout, sizes.n_dims)


def cnn3d(config: ModelConfig, sizes: Sizes) -> nn.Module:
    """Return four blocks of convolution, norm, ReLU and max pooling, and a hidden layer of 512.

    Channels 8, 16, 32 and 64: 108 thousand parameters in 3D. Images need 16 voxels along each axis.

    Args:
        config: ``width`` is the channels of the first block.
        sizes: Input and output.
    """
    widths = [(config.width or 8) * 2**i for i in range(4)]
    inputs = [sizes.n_channels, *widths[:-1]]
    blocks = [
        _block(sizes.n_dims, n_in, n_out, is_pooled=True)
        for n_in, n_out in zip(inputs, widths, strict=True)
    ]
    return _network(blocks, (widths[-1], 512, sizes.n_outputs), config.dropout, sizes.n_dims)


def _block(n_dims: int, n_in: int, n_out: int, *, is_pooled: bool) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = Conv[Conv.CONV, n_dims](n_in, n_out, kernel_size=3, padding=1)
    layers["norm"] = Norm[Norm.BATCH, n_dims](n_out)
    layers["relu"] = nn.ReLU()
    if is_pooled:
        layers["pool"] = Pool[Pool.MAX, n_dims](2)
    return nn.Sequential(layers)


def _network(
    blocks: list[nn.Module], widths: tuple[int, int, int], dropout: float, n_dims: int
) -> nn.Module:
    n_features, n_hidden, n_outputs = widths
    layers = OrderedDict((f"block{i}", block) for i, block in enumerate(blocks, 1))
    layers["pool"] = Pool[Pool.ADAPTIVEAVG, n_dims](1)
    layers["flatten"] = nn.Flatten(1)
    layers["hidden"] = nn.Linear(n_features, n_hidden)
    layers["relu"] = nn.ReLU()
    layers["dropout"] = nn.Dropout(dropout)
    layers["out"] = nn.Linear(n_hidden, n_outputs)
    return nn.Sequential(layers)

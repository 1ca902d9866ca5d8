"""Convolutions with a kernel of 4, whose padding cannot be the same on both sides."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.layers.factories import Conv, Norm, Pool
from torch import nn

from fedmri.models.blocks import answering
from fedmri.models.sizes import Sizes

_KERNEL, _POOL, _N_POOLED = 4, 4, 2


def even_network(widths: Sequence[int], sizes: Sizes, dropout: float) -> nn.Module:
    """Return pairs of convolutions, global average pooling and one linear layer.

    Args:
        widths: Channels of each pair; max pooling follows the first two pairs.
        sizes: Sizes of input and output.
        dropout: Rate before the linear layer.
    """
    layers: dict[str, nn.Module] = {}
    for i, (n_in, n_out) in enumerate(zip([sizes.n_channels, *widths], widths, strict=False)):
        layers[f"pair{i + 1}"] = _pair(sizes.n_dims, n_in, n_out)
        if i < _N_POOLED:
            layers[f"pool{i + 1}"] = Pool[Pool.MAX, sizes.n_dims](_POOL)
    return answering(layers, widths[-1], sizes, dropout)


def _pair(n_dims: int, n_in: int, n_out: int) -> nn.Module:
    # One voxel more after the first convolution and one less after the second: the size stays.
    layers: list[nn.Module] = []
    for n, padding in ((n_in, 2), (n_out, 1)):
        layers.append(Conv[Conv.CONV, n_dims](n, n_out, kernel_size=_KERNEL, padding=padding))
        layers += [Norm[Norm.BATCH, n_dims](n_out), nn.ReLU()]
    return nn.Sequential(*layers)

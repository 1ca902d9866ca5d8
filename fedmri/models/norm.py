"""Normalisation layers as a choice: batch, group or instance, in any network."""

from __future__ import annotations

import math

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

N_GROUPS = 8
BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def set_norm(network: nn.Module, norm: str, n_dims: int) -> None:
    """Replace every batch, group and instance norm of a network, in place.

    Layer norm in transformers stays. All layers get scale and shift (MONAI's instance norm has
    none) and keep their epsilon. Batch norm averages with momentum 0.1 everywhere: EfficientNet's
    0.01 needs hundreds of steps, and a site has dozens in a round.

    Args:
        network: Network to change.
        norm: ``batch``, ``group`` or ``instance``.
        n_dims: Spatial dimensions of its images, 2 or 3.

    Source:
        Wu and He 2018, Group normalization, arXiv:1803.08494. Ulyanov, Vedaldi and Lempitsky 2016,
        Instance normalization, arXiv:1607.08022.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (_BatchNorm, _InstanceNorm)):
                setattr(parent, name, _layer(norm, n_dims, child.num_features, child.eps))
            elif isinstance(child, nn.GroupNorm):
                setattr(parent, name, _layer(norm, n_dims, child.num_channels, child.eps))


def n_groups(n_channels: int) -> int:
    """Return the groups for group norm: a divisor of the channels, 8 or fewer.

    A group holds two channels or more, unless there is one: groups of one channel would be
    instance norm.
    """
    divisor = math.gcd(N_GROUPS, n_channels)
    return divisor // 2 if divisor == n_channels > 1 else divisor


def _layer(norm: str, n_dims: int, n_channels: int, eps: float) -> nn.Module:
    if norm == "group":
        return nn.GroupNorm(n_groups(n_channels), n_channels, eps=eps)
    if norm == "instance":
        return INSTANCE[n_dims](n_channels, eps=eps, affine=True)
    return BATCH[n_dims](n_channels, eps=eps)

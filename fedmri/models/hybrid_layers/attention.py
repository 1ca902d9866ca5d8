"""Self-attention between all places of a map of features."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Any

from monai.networks.blocks.spatialattention import SpatialAttentionBlock
from monai.networks.nets.densenet import DenseNet
from torch import nn


def with_attention(network: DenseNet, n_dims: int, after: Collection[str]) -> nn.Module:
    """Return a DenseNet with MONAI's self-attention after the named blocks.

    Source:
        Wang et al. 2018, arXiv:1711.07971 (non-local blocks).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in network.features.named_children():
        layers[name] = layer
        if name in after:
            n_channels = _n_out(network, name)
            attention = SpatialAttentionBlock(n_dims, n_channels, norm_num_groups=1)
            layers[f"{name}_attention"] = attention
    network.features = nn.Sequential(layers)
    return network


def _n_out(network: DenseNet, name: str) -> int:
    """Return the channels that leave a dense block: those that the layer after it takes."""
    names = [each for each, _ in network.features.named_children()]
    following = network.features.get_submodule(names[names.index(name) + 1])
    norm: Any = getattr(following, "norm", following)
    return int(norm.num_features)

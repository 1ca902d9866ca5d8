"""Low-rank adapters: two small layers beside a large one learn what is added to its answer.

The large layer stands still. Its weight plus the product of the two small ones is one layer again,
so a finished model is the network of its plan and nothing else.

Source:
    Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen 2021, LoRA, arXiv:2106.09685.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from fedmri.errors import require
from fedmri.models.build import drawing
from fedmri.round import Weights

_ADAPTER, _DOWN, _UP = "adapter", "adapter.0.weight", "adapter.1.weight"
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def add_adapters(network: nn.Module, rank: int, head: Collection[str], seed: int) -> frozenset[str]:
    """Put adapters beside the linear and convolution layers of a network; return their entries.

    A layer that ``rank`` does not make smaller has none, nor has one of groups. What is added is
    zero at first. The paper's factor is 1, for it does the same as the learning rate.

    Args:
        network: Network to change; its own entries keep their names.
        rank: Numbers between the two small layers; 0 changes nothing.
        head: Parameters of the last layer, which has no adapter.
        seed: Decides the first weights to the bit.

    Raises:
        ConfigError: No layer is large enough (C01).
    """
    if not rank:
        return frozenset()
    before = set(network.state_dict())
    found = [
        layer
        for path, layer in network.named_modules()
        if f"{path}.weight" not in head and _is_adapted(layer, rank)
    ]
    want = "less than the inputs and the outputs of a layer"
    require(bool(found), "train.adapter_rank", rank, want)
    with drawing(seed):
        for layer in found:
            layer.add_module(_ADAPTER, _adapter(layer, rank))
            layer.register_forward_hook(_with_adapter)
    return frozenset(network.state_dict().keys() - before)


def merged(values: Mapping[str, torch.Tensor], adapters: Collection[str]) -> Weights:
    """Return the entries of the network without adapters that answers the same.

    Args:
        values: All entries, those of adapters among them; not changed.
        adapters: Names that ``add_adapters`` returned.
    """
    found = {name: value for name, value in values.items() if name not in adapters}
    for name in sorted(adapters):
        if name.endswith(_UP):
            layer = name.removesuffix(_UP)
            up, down = values[name].flatten(1), values[f"{layer}{_DOWN}"].flatten(1)
            weight = found[f"{layer}weight"]
            found[f"{layer}weight"] = weight + (up @ down).view_as(weight)
    return found


def _is_adapted(layer: Any, rank: int) -> bool:
    # of the very class: attention reads the weight of its own kind of layer, and calls no hook
    is_plain = type(layer) is nn.Linear or (type(layer) in _CONVOLUTIONS and layer.groups == 1)
    return is_plain and rank < min(layer.weight.shape[0], layer.weight[0].numel())


def _adapter(layer: Any, rank: int) -> nn.Sequential:
    """Return the two small layers; the second is zero, so that nothing is added at first."""
    if isinstance(layer, nn.Linear):
        down: Any = nn.Linear(layer.in_features, rank, bias=False)
        up: Any = nn.Linear(rank, layer.out_features, bias=False)
    else:
        kind, names = type(layer), ("stride", "padding", "dilation", "padding_mode")
        same = {name: getattr(layer, name) for name in names}
        down = kind(layer.in_channels, rank, layer.kernel_size, bias=False, **same)
        up = kind(rank, layer.out_channels, 1, bias=False)
    nn.init.zeros_(up.weight)
    return nn.Sequential(down, up)


def _with_adapter(
    layer: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor
) -> torch.Tensor:
    added: torch.Tensor = layer.get_submodule(_ADAPTER)(args[0])
    return output + added

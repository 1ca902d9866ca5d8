"""A network as scores of one number a class, and its last layer that still knows places."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.networks.blocks.selfattention import SABlock
from torch import nn
from torch.nn.modules.conv import _ConvNd

from fedmri.models.build import build_network
from fedmri.round import Answer
from fedmri.tasks.task import Task
from fedmri.trained.file.model_file import ModelFile

_PATCH = 8
"""A convolution with such a stride cuts patches; it knows nothing of what is in them."""


class Scores(nn.Module):
    """From one image ``(B, C, *shape)`` to scores ``(B, n)``, before softmax.

    A segmentation's score of a class is its mean logit over a region: where it was predicted.

    Source:
        Vinogradova, Dibrov and Myers 2020, arXiv:2002.11434 (regions of a segmentation).
    """

    def __init__(self, network: nn.Module, answer: Answer) -> None:
        super().__init__()
        self.network, self.answer = network, answer
        self.region: torch.Tensor | None = None

    def look_at(self, region: torch.Tensor | None) -> None:
        """Take the mean over a region from now on, ones and zeros ``(*shape)``; None: over all."""
        self.region = region

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores of images."""
        outputs: torch.Tensor = self.network(image)
        if self.answer == "image":
            return outputs
        if self.region is None:
            return outputs.flatten(2).mean(2)
        region = self.region.to(outputs.dtype)
        return (outputs * region).flatten(2).sum(2) / region.sum()


def untrained(file: ModelFile, seed: int) -> nn.Module:
    """Return the model's network with other initial weights, never trained."""
    plan = file.card.plan
    other = {**plan.network, "seed": plan.seed + 1 + seed}
    return build_network(plan.model, **other).eval()  # type: ignore[arg-type]  # the same keys


def with_head_of(network: nn.Module, other: nn.Module, head: tuple[str, ...]) -> nn.Module:
    """Return a copy of a network whose last layer is another's."""
    found = copy.deepcopy(network)
    theirs = other.state_dict()
    with torch.no_grad():
        for name, value in found.state_dict().items():
            if name in head:
                value.copy_(theirs[name])
    return found.eval()


@dataclass
class _Watch:
    """What leaves each layer in one pass, in order, until the last layer begins."""

    order: list[str] = field(default_factory=list)
    shapes: dict[str, torch.Size] = field(default_factory=dict)
    is_over: bool = False


def feature_layers(network: nn.Module, image: torch.Tensor, head: str) -> tuple[str, ...]:
    """Return the names of the layers that Grad-CAM looks at; none where no layer has places.

    A network may name them itself (``feature_maps``). Else it is the last one before the head that
    is used once and gives a map of more than one place.

    Args:
        network: The network.
        image: One image, shape ``(1, C, *shape)``.
        head: Name of the layer that makes the outputs.
    """
    own = getattr(network, "feature_maps", ())
    if isinstance(own, tuple) and own:
        return own
    watch = _watched(network, image, head)
    once = [name for name in watch.order if watch.order.count(name) == 1]
    within = [n for n, m in network.named_modules() if isinstance(m, SABlock)]
    maps = [
        name
        for name in once
        if _has_places(watch.shapes[name]) and not any(name.startswith(f"{n}.") for n in within)
    ]
    patches = [name for name in maps if _cuts_patches(network.get_submodule(name))]
    better = [name for name in maps if name not in patches]
    return tuple((better or patches)[-1:])


def _watched(network: nn.Module, image: torch.Tensor, head: str) -> _Watch:
    watch, hooks = _Watch(), []

    def end(*_: Any) -> None:
        watch.is_over = True

    for name, module in network.named_modules():
        if not name:
            continue
        if name == head:
            hooks.append(module.register_forward_pre_hook(end))
        hooks.append(module.register_forward_hook(_noting(watch, name)))
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return watch


def _noting(watch: _Watch, name: str) -> Any:
    def note(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and not watch.is_over:
            watch.order.append(name)
            watch.shapes[name] = output.shape

    return note


def _has_places(shape: torch.Size) -> bool:
    return len(shape) in (4, 5) and max(shape[2:]) > 1


def _cuts_patches(layer: nn.Module) -> bool:
    return isinstance(layer, _ConvNd) and min(layer.stride) >= _PATCH


def classes_of(task: Task) -> tuple[str, ...]:
    """Return the classes of a task that can be asked for by name; empty where it has none."""
    named = task.label_map or task
    return tuple(getattr(named, "classes", ()))

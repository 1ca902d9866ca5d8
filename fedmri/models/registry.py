"""Networks by name, one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from fedmri.models.cnn import cnn3d, cnn5
from fedmri.models.settings import ModelConfig
from fedmri.models.sizes import Sizes
from fedmri.models.zoo import (
    attention_unet,
    densenet121,
    efficientnet_b0,
    resnet18,
    segresnet,
    swin_unetr,
    unet,
    vit,
)
from fedmri.round import TaskKind

IMAGE: tuple[TaskKind, ...] = ("classification", "regression")
VOXEL: tuple[TaskKind, ...] = ("segmentation",)


@dataclass(frozen=True)
class Entry:
    """A network of the registry.

    Attributes:
        make: Builds it, with weights drawn from torch's global generator.
        kinds: Tasks that it can do.
        multiple: Every side of an image must be a multiple of this.
    """

    make: Callable[[ModelConfig, Sizes], nn.Module]
    kinds: tuple[TaskKind, ...]
    multiple: int = 1


MODELS: dict[str, Entry] = {
    "cnn5": Entry(cnn5, IMAGE),
    "cnn3d": Entry(cnn3d, IMAGE),
    "densenet121": Entry(densenet121, IMAGE),
    "resnet18": Entry(resnet18, IMAGE),
    "efficientnet_b0": Entry(efficientnet_b0, IMAGE),
    "vit": Entry(vit, IMAGE, multiple=16),
    "unet": Entry(unet, VOXEL, multiple=16),
    "attention_unet": Entry(attention_unet, VOXEL, multiple=16),
    "segresnet": Entry(segresnet, VOXEL, multiple=8),
    "swin_unetr": Entry(swin_unetr, VOXEL, multiple=32),
}


def model_names(kind: TaskKind | None = None) -> tuple[str, ...]:
    """Return the names of all networks, or of those that can do a kind of task."""
    return tuple(name for name, entry in MODELS.items() if kind is None or kind in entry.kinds)

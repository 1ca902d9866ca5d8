"""A function that makes a network, as a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.models.model import IMAGE, VOXEL, Model
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn


def as_model(model: Model | Callable[[Sizes], nn.Module]) -> Model:
    """Return a model as it is, and a function as a model that claims nothing.

    The function has the name of the model. It is called once for each network; weights that it
    draws are of the plan's seed.
    """
    if not callable(model):
        return model
    make = model

    @dataclass(frozen=True)
    class FromFunction:
        kinds: ClassVar[tuple[Answer, ...]] = (*IMAGE, *VOXEL)
        multiple: ClassVar[int] = 1

        def build(self, sizes: Sizes) -> nn.Module:
            return make(sizes)

    FromFunction.__name__ = getattr(make, "__name__", "network").strip("<>")
    FromFunction.__module__ = make.__module__
    return FromFunction()

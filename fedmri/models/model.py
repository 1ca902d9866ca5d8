"""What a model is: settings as fields, and a network built for the sizes of data and target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias

from fedmri.claims import Claim, Claims
from fedmri.errors import require
from fedmri.models.sizes import Sizes
from fedmri.round import Answer

if TYPE_CHECKING:
    from torch import nn

IMAGE: tuple[Answer, ...] = ("image",)
VOXEL: tuple[Answer, ...] = ("voxel",)

Norm: TypeAlias = Literal["batch", "group", "instance"]


class Model(Protocol):
    """A network that can be chosen. Its class is a frozen dataclass; its fields are its settings.

    Attributes:
        kinds: What it can answer: ``IMAGE``, ``VOXEL`` or both.
        multiple: Every side of an image must be a multiple of this.

    A network for images or for volumes alone says so by a tuple ``n_dims`` in its class; without it
    a network takes both.
    """

    kinds: ClassVar[tuple[Answer, ...]]
    multiple: ClassVar[int]

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network, with weights drawn from torch's global generator.

        Nothing is downloaded. Libraries are imported here, so that settings are read without them.

        Raises:
            ConfigError: The settings do not go together (C01).
        """
        ...


@dataclass(frozen=True)
class Normed:
    """What models share whose norm layers can be exchanged: all but transformers.

    Attributes:
        norm: Normalisation layer; batch norm mixes the statistics of sites, group norm does not.
        width: Channels of the first block; later blocks follow.
    """

    norm: Norm = "group"
    width: int = 16

    multiple: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_width(self.width)

    def layers(self, sizes: Sizes) -> nn.Module:
        """Return the network with any norm."""
        raise NotImplementedError

    def build(self, sizes: Sizes) -> nn.Module:
        """Return the network with the norm of choice."""
        from fedmri.models.norm import set_norm

        network = self.layers(sizes)
        set_norm(network, self.norm, sizes.n_dims)
        return network


@dataclass(frozen=True)
class NormedWithDropout(Normed):
    """A model that also has dropout.

    Attributes:
        dropout: Share of values that are left out in training.
    """

    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_dropout(self.dropout)


@dataclass(frozen=True)
class LayerNormed:
    """What models share whose norm is layer norm alone.

    Attributes:
        width: Channels of the first stage; they double from stage to stage.
        dropout: Share of values that are left out in training.
    """

    width: int = 96
    dropout: float = 0.0

    multiple: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_width(self.width)
        require_dropout(self.dropout)


def require_width(width: int) -> None:
    """Refuse a width below 1 (C01)."""
    require(width >= 1, "model.width", width, "1 or more")


def require_dropout(rate: float) -> None:
    """Refuse a rate of dropout that is none (C01)."""
    require(0 <= rate < 1, "model.dropout", rate, "0 to below 1")


def apart_by_norm(model: Normed) -> Claims:
    """Return the claim of a model that mixes patients with batch norm alone."""
    return frozenset() if model.norm == "batch" else frozenset({Claim.PATIENTS_APART})


APART_BY_NORM = property(apart_by_norm)
"""Claims of a model that mixes patients with batch norm alone."""

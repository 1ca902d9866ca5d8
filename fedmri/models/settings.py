"""Settings of the models room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmri.errors import require


@dataclass(frozen=True)
class ModelConfig:
    """A network by its name in the registry.

    Attributes:
        name: Entry of the registry (``fedmri models`` lists them).
        norm: Normalisation layer; batch norm mixes the statistics of sites, group norm does not.
        width: Channels of the first block; 0 takes the model's own default. Later blocks follow.
        dropout: Dropout rate where the model has dropout.
    """

    name: str = "cnn5"
    norm: Literal["batch", "group", "instance"] = "group"
    width: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require(self.width >= 0, "model.width", self.width, "0 or more")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "0 to below 1")

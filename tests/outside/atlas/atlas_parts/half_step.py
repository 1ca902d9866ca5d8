"""HalfStep: the server goes a part of the way to the mean of the sites' models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claims
from fedmri.errors import require
from fedmri.round import ServerState, Update, Weights
from fedmri.strategies.averaging.fedavg import FedAvg


@dataclass(frozen=True)
class HalfStep(FedAvg):
    """FedAvg that stops on its way to the mean.

    Attributes:
        way: Share of the way, above 0, up to 1.
    """

    way: float = 0.5

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "made for a test"
    consent: ClassVar[str] = "the server goes a part of the way to the mean of all models"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.way <= 1, "strategy.way", self.way, "above 0, up to 1")

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with a model between the last one and the mean in ``out``."""
        new = super().aggregate(state, updates, out)
        for name in sorted(state.layout.parameters & new.model.keys()):
            mean = new.model[name]
            mean.copy_(state.model[name].lerp(mean, self.way))
        return new

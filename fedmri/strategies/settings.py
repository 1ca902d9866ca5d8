"""Settings of the strategies room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmri.errors import require


@dataclass(frozen=True)
class StrategyConfig:
    """A strategy by its name, and what it weighs sites by.

    Attributes:
        name: Entry of the registry, such as ``fedavg``, ``fedprox``, ``fedbn``, ``silobn``.
        weighting: Weight of a site: its training examples, their square root, its patients, or
            the same for all.
        server_lr: Step of the server towards the sites' mean; 1 takes the mean.
        mu: Pull of a site towards the received model (FedProx).
    """

    name: str = "fedavg"
    weighting: Literal["examples", "subjects", "square_root", "uniform"] = "examples"
    server_lr: float = 1.0
    mu: float = 0.01

    def __post_init__(self) -> None:
        require(self.server_lr > 0, "strategy.server_lr", self.server_lr, "a positive number")
        require(self.mu >= 0, "strategy.mu", self.mu, "0 or more")

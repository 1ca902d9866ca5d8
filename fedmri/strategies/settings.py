"""Settings of the strategies room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmri.errors import require


@dataclass(frozen=True)
class StrategyConfig:
    """A strategy by its name, what it weighs sites by, and the numbers that some of them have.

    Attributes:
        name: Entry of the registry, such as ``fedavg`` or ``scaffold``.
        weighting: Weight of a site: its training examples, their square root, its patients, or
            the same for all.
        server_lr: Step of the server along the mean change of the sites' parameters; 1 takes the
            mean, as FedDyn must. FedAdam, FedYogi and FedAdagrad need a far smaller one: each
            parameter moves by about as much.
        mu: Pull of a site towards the received model (FedProx, FedDyn, FedNova). For Ditto, the
            pull of a site's own model towards it. For MOON, the factor of the contrast of
            embeddings.
        temperature: Of that contrast: a small one counts small differences much.
        beta: Momentum of the server (FedAvgM, FedAdam, FedYogi).
        beta2: Decay of the squares of changes (FedAdam, FedYogi).
        tau: What is added to their root (FedAdam, FedYogi, FedAdagrad).
        head_share: Share of a round's steps that train the head alone (FedRep).
        n_outliers: Bad sites that are put up with (trimmed mean, Krum).
        max_change: Largest norm of the change of a site's parameters (norm bound).
    """

    name: str = "fedavg"
    weighting: Literal["examples", "subjects", "square_root", "uniform"] = "examples"
    server_lr: float = 1.0
    mu: float = 0.01
    temperature: float = 0.5
    beta: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    head_share: float = 0.5
    n_outliers: int = 1
    max_change: float = 1.0

    def __post_init__(self) -> None:
        for name in ("server_lr", "temperature", "tau", "max_change"):
            value = getattr(self, name)
            require(value > 0, f"strategy.{name}", value, "a positive number")
        for name in ("beta", "beta2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"strategy.{name}", value, "0 or more, below 1")
        require(self.mu >= 0, "strategy.mu", self.mu, "0 or more")
        share = self.head_share
        require(0 < share < 1, "strategy.head_share", share, "above 0, below 1")
        n_outliers = self.n_outliers
        require(n_outliers >= 0, "strategy.n_outliers", n_outliers, "0 or more")
        if self.name == "feddyn":
            require(self.mu > 0, "strategy.mu", self.mu, "above 0 for feddyn")
            is_whole = self.server_lr == 1
            require(is_whole, "strategy.server_lr", self.server_lr, "1 for feddyn")
            is_uniform = self.weighting == "uniform"
            require(is_uniform, "strategy.weighting", self.weighting, "uniform for feddyn")

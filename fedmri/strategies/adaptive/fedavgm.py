"""FedAvgM: momentum at the server, which takes the sites' mean change for a gradient.

Hsu, Qi and Brown 2019, Measuring the effects of non-identical data distribution, arXiv:1909.06335.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fedmri.claims import Claims
from fedmri.round import Layout, ServerState, Update, Weights
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.mean import weighted_mean
from fedmri.strategies.moments import MOMENTUM, filled, require_decay


@dataclass(frozen=True)
class FedAvgM(FedAvg):
    """Momentum at the server: ``v = beta v + change``, ``model += server_lr v``.

    Attributes:
        server_lr: Step of the server. A steady change moves the model ``server_lr / (1 - beta)``
            times as far as averaging does: once with both defaults, ten times with a step of 1.
        beta: Momentum of the server.
    """

    server_lr: float = 0.1
    beta: float = 0.9

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Hsu, Qi and Brown 2019, arXiv:1909.06335"
    consent: ClassVar[str] = (
        "the server averages all models, and goes on in the direction of earlier rounds"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_decay("beta", self.beta)

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the initial model and a momentum of zeros."""
        return ServerState(model, layout, {MOMENTUM: filled(model, layout, 0.0)})

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        mean = weighted_mean(state.model, updates, self.weigh, out)
        momentum: Weights = {}
        for name, old in state.memory[MOMENTUM].items():
            change = mean[name].sub_(state.model[name])
            momentum[name] = change.add(old, alpha=self.beta)
            step = self.step(change, momentum[name])
            torch.add(state.model[name], step, alpha=self.server_lr, out=mean[name])
        return replace(state, model=mean, memory={MOMENTUM: momentum})

    def step(self, change: torch.Tensor, momentum: torch.Tensor) -> torch.Tensor:
        """Return where a parameter goes; ``change`` may be overwritten, ``momentum`` not."""
        return momentum

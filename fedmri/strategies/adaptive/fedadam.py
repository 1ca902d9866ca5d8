"""FedAdam: Adam at the server, which takes the sites' mean change for a gradient.

Reddi et al. 2021, Adaptive federated optimization, arXiv:2003.00295: as in its algorithm 2, without
bias correction, v starts at tau².
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fedmri.claims import Claims
from fedmri.errors import require
from fedmri.round import Layout, ServerState, Update, Weights
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.mean import weighted_mean
from fedmri.strategies.moments import MOMENTUM, SQUARES, filled, require_decay


@dataclass(frozen=True)
class FedAdam(FedAvg):
    """Adam at the server.

    Attributes:
        server_lr: Step of the server; each parameter moves by about as much. Up to ``tau`` no
            parameter moves farther than averaging would move it in the long run.
        beta: Decay of the first moment.
        beta2: Decay of the second.
        tau: How much a change must be to count: added to the root of the second moment.
    """

    server_lr: float = 0.01
    beta: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-2

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Reddi et al. 2021, arXiv:2003.00295"
    consent: ClassVar[str] = (
        "the server takes the mean change of all hospitals for a gradient, and steps along it"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_decay("beta", self.beta)
        require_decay("beta2", self.beta2)
        require(self.tau > 0, "strategy.tau", self.tau, "a positive number")

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the initial model, and moments of zero and of tau squared."""
        squares = filled(model, layout, self.tau**2)
        return ServerState(model, layout, {MOMENTUM: filled(model, layout, 0.0), SQUARES: squares})

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        mean = weighted_mean(state.model, updates, self.weigh, out)
        momentum: Weights = {}
        squares: Weights = {}
        for name, old in state.memory[MOMENTUM].items():
            change = mean[name].sub_(state.model[name])
            momentum[name] = torch.lerp(change, old, self.beta)
            squares[name] = self.next_squares(state.memory[SQUARES][name], change.square())
            step = momentum[name] / (squares[name].sqrt() + self.tau)
            torch.add(state.model[name], step, alpha=self.server_lr, out=mean[name])
        return replace(state, model=mean, memory={MOMENTUM: momentum, SQUARES: squares})

    def next_squares(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the second moment after a change whose square is given."""
        return torch.lerp(new, old, self.beta2)

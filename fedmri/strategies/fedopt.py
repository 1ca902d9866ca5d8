"""Optimizers at the server: the sites' mean change is taken for a gradient.

Hsu, Qi and Brown 2019, Measuring the effects of non-identical data distribution,
arXiv:1909.06335 (FedAvgM). Reddi et al. 2021, Adaptive federated optimization, arXiv:2003.00295
(FedAdam, FedYogi, FedAdagrad): as in its algorithm 2, without bias correction, v starts at tau².

They move trainable parameters only. Statistics of batch norm are averaged as in FedAvg, because
momentum on a running variance makes it negative.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from fedmri.round import Layout, ServerState, Update, Weights
from fedmri.strategies.fedavg import FedAvg
from fedmri.strategies.mean import WEIGHTINGS, weighted_mean

MOMENTUM, SQUARES = "momentum", "squares"


@dataclass(frozen=True)
class FedAvgM(FedAvg):
    """Momentum at the server: ``v = beta v + change``, ``model += server_lr v``."""

    beta: float = 0.9

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the initial model and a momentum of zeros."""
        return ServerState(model, layout, {MOMENTUM: _like(model, layout, 0.0)})

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        mean = weighted_mean(state.model, updates, WEIGHTINGS[self.weighting], out)
        momentum: Weights = {}
        for name, old in state.memory[MOMENTUM].items():
            change = mean[name].sub_(state.model[name])
            momentum[name] = change.add(old, alpha=self.beta)
            torch.add(state.model[name], momentum[name], alpha=self.server_lr, out=mean[name])
        return replace(state, model=mean, memory={MOMENTUM: momentum})


@dataclass(frozen=True)
class FedAdam(FedAvg):
    """Adam at the server; its subclasses differ in how the squares of changes are kept.

    Args:
        beta: Decay of the first moment.
        beta2: Decay of the second.
        tau: How much a change must be to count: added to the root of the second moment.
    """

    beta: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the initial model, and moments of zero and of tau squared."""
        squares = _like(model, layout, self.tau**2)
        return ServerState(model, layout, {MOMENTUM: _like(model, layout, 0.0), SQUARES: squares})

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        mean = weighted_mean(state.model, updates, WEIGHTINGS[self.weighting], out)
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


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """Yogi at the server: the second moment moves by the size of the new square, not the gap."""

    def next_squares(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the second moment after a change whose square is given."""
        return old - (1 - self.beta2) * new * torch.sign(old - new)


@dataclass(frozen=True)
class FedAdagrad(FedAdam):
    """Adagrad at the server: squares add up, and the first moment is the change itself."""

    beta: float = 0.0

    def next_squares(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the second moment after a change whose square is given."""
        return old + new


def _like(model: Weights, layout: Layout, value: float) -> Weights:
    return {n: torch.full_like(model[n], value) for n in sorted(layout.parameters & model.keys())}

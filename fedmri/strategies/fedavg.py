"""FedAvg: the weighted mean of the sites' models.

McMahan, Moore, Ramage, Hampson and Agüera y Arcas 2017, Communication-efficient learning of deep
networks from decentralized data, arXiv:1602.05629.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from fedmri.round import (
    ExtraForms,
    Layout,
    Phase,
    ServerState,
    SiteMemory,
    SiteRound,
    Trained,
    Update,
    Weights,
)
from fedmri.strategies.mean import WEIGHTINGS, weighted_mean


@dataclass(frozen=True)
class FedAvg:
    """Mean of the sites' models, weighted by ``weighting``.

    With ``server_lr`` below 1 the parameters go only that share of the way to the mean. The other
    strategies are written as what they change of this one.
    """

    weighting: str = "examples"
    server_lr: float = 1.0

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return nothing: the whole model is shared."""
        return frozenset()

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one: sites follow their own gradients."""
        return (Phase(),)

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Return nothing: a site is as it was."""
        return SiteMemory()

    def own_model(self, memory: Mapping[str, Weights]) -> Weights:
        """Return nothing: the global model is everybody's."""
        return {}

    def extra_forms(self, shared: Mapping[str, torch.Tensor], layout: Layout) -> ExtraForms:
        """Declare nothing beside the update."""
        return {}

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the state before the first round: the initial model."""
        return ServerState(model, layout)

    def broadcast(self, state: ServerState) -> Mapping[str, Weights]:
        """Return nothing beside the model."""
        return {}

    def turns(self, sites: tuple[str, ...], round_index: int) -> tuple[tuple[str, ...], ...]:
        """Return one turn: all sites train side by side."""
        return (sites,)

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        mean = weighted_mean(state.model, updates, WEIGHTINGS[self.weighting], out)
        step_to(mean, state, self.server_lr)
        return replace(state, model=mean)


def step_to(mean: Weights, state: ServerState, server_lr: float) -> None:
    """Take in place the share of the way to the mean; statistics of batch norm stay the mean.

    A step beyond the mean could make a running variance negative.
    """
    if server_lr != 1:
        for name in sorted(state.layout.parameters & mean.keys()):
            torch.lerp(state.model[name], mean[name], server_lr, out=mean[name])

"""FedAvg: the weighted mean of the sites' models.

McMahan, Moore, Ramage, Hampson and Agüera y Arcas 2017, Communication-efficient learning of deep
networks from decentralized data, arXiv:1602.05629.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from fedmri.round import GradientTerm, Layout, ServerState, Update, Weights
from fedmri.strategies.mean import WEIGHTINGS, weighted_mean


@dataclass(frozen=True)
class FedAvg:
    """Mean of the sites' models, weighted by ``weighting``.

    With ``server_lr`` below 1 the server goes only that share of the way to the mean.
    """

    weighting: str = "examples"
    server_lr: float = 1.0

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return nothing: the whole model is shared."""
        return frozenset()

    def gradient_term(self, received: Weights) -> GradientTerm | None:
        """Return None: sites follow their own gradients."""
        return None

    def start(self, model: Weights) -> ServerState:
        """Return the state before the first round: the initial model."""
        return ServerState(model)

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        mean = weighted_mean(state.model, updates, WEIGHTINGS[self.weighting], out)
        if self.server_lr != 1:
            for name, value in mean.items():
                if value.is_floating_point():
                    torch.lerp(state.model[name], value, self.server_lr, out=value)
        return ServerState(mean)

"""FedNova: a site that took more steps does not pull harder.

Wang, Liu, Liang, Joshi and Poor 2020, Tackling the objective inconsistency problem in
heterogeneous federated optimization, arXiv:2007.07481.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from fedmri.round import (
    ExtraForms,
    Form,
    Layout,
    ServerState,
    SiteMemory,
    SiteRound,
    Trained,
    Update,
    Weights,
)
from fedmri.strategies.fedavg import FedAvg
from fedmri.strategies.mean import WEIGHTINGS, weighted_mean

STEPS, LENGTH = "steps", "length"


@dataclass(frozen=True)
class FedNova(FedAvg):
    """Mean of the sites' changes by step, times the mean number of steps.

    Args:
        momentum: Momentum of the sites' SGD, whose steps grow with it; 0 counts steps as they are.

    It removes the pull of sites with more steps, not the drift within a round.
    """

    momentum: float = 0.0

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Send how long the site's way was, in steps of plain SGD."""
        length = effective_steps(trained["train"].n_steps, self.momentum)
        return SiteMemory(extra={STEPS: {LENGTH: torch.tensor(length, dtype=torch.float64)}})

    def extra_forms(self, shared: Mapping[str, torch.Tensor], layout: Layout) -> ExtraForms:
        """Declare the effective number of steps."""
        return {STEPS: {LENGTH: Form(torch.float64, ())}}

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``.

        Parameters: ``x + server_lr * sum(p_k a_k) * sum(p_k (y_k - x) / a_k)`` with effective
        steps ``a_k``. Statistics of batch norm are averaged as in FedAvg.
        """
        weigh, names = WEIGHTINGS[self.weighting], state.layout.parameters
        total, steps, shared = 0.0, 0.0, set[str]()

        def normalised() -> Iterator[Update]:
            nonlocal total, steps
            for update in updates:
                length = float(update.extra[STEPS][LENGTH])
                total, steps = total + weigh(update), steps + weigh(update) * length
                scaled = dict(update.weights)
                for name in names & scaled.keys():
                    scaled[name] = (scaled[name] - state.model[name]).div_(max(length, 1.0))
                shared.update(names & scaled.keys())
                yield replace(update, weights=scaled)
                del update, scaled

        mean = weighted_mean(state.model, normalised(), weigh, out)
        way = self.server_lr * steps / total
        for name in sorted(shared):
            torch.add(state.model[name], mean[name], alpha=way, out=mean[name])
        return replace(state, model=mean)


def effective_steps(n_steps: int, momentum: float) -> float:
    """Return the sum of the weights that gradients have in the way of momentum SGD."""
    if momentum == 0:
        return float(n_steps)
    geometric = momentum * (1 - momentum**n_steps) / (1 - momentum)
    return (n_steps - geometric) / (1 - momentum)

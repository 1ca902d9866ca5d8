"""FedNova: a site that took more steps does not pull harder.

Wang, Liu, Liang, Joshi and Poor 2020, Tackling the objective inconsistency problem in
heterogeneous federated optimization, arXiv:2007.07481.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fedmri.claims import Claim, Claims, Need, Needs
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
from fedmri.strategies.averaging.fedprox import FedProx
from fedmri.strategies.mean import weighted_mean

STEPS, LENGTH = "steps", "length"


@dataclass(frozen=True)
class FedNova(FedProx):
    """Mean of the sites' changes by step, times the mean number of steps.

    It removes the pull of sites with more steps, not the drift within a round. Ways are those of
    SGD: under other optimizers steps are counted as if they were its.

    Attributes:
        mu: Pull of sites towards the received model as in FedProx, which shortens their way.
    """

    mu: float = 0.0

    claims: ClassVar[Claims] = frozenset({Claim.BLIND_TO_PATIENTS, Claim.ONE_MODEL})
    source: ClassVar[str] = "Wang et al. 2020, arXiv:2007.07481"
    needs: ClassVar[Needs] = frozenset({Need.COUNTED_STEPS})
    consent: ClassVar[str] = "beside your model leaves how many steps your training took"

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Send how long the site's way was, in steps of plain SGD."""
        result = trained["train"]
        pull = self.mu * result.rate_sum / max(1, result.n_steps)
        length = effective_steps(result.n_steps, before.momentum, pull)
        return SiteMemory(extra={STEPS: {LENGTH: torch.tensor(length, dtype=torch.float64)}})

    def extra_forms(self, shared: Mapping[str, torch.Tensor], layout: Layout) -> ExtraForms:
        """Declare the effective number of steps."""
        return {STEPS: {LENGTH: Form(torch.float64, ())}}

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``.

        Parameters: ``x + server_lr * sum(p_k a_k) * sum(p_k (y_k - x) / a_k)`` with effective
        steps ``a_k``. Statistics of batch norm are averaged as in FedAvg.
        """
        weigh, names = self.weigh, state.layout.parameters
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


def effective_steps(n_steps: int, momentum: float, pull: float = 0.0) -> float:
    """Return the way of SGD under a gradient of 1, in learning rates: the paper's ``|a|_1``.

    Args:
        n_steps: Steps taken.
        momentum: Of SGD; alone it makes of ``n`` steps ``(n - m (1 - m^n) / (1 - m)) / (1 - m)``.
        pull: Learning rate times ``mu``; alone it makes of them ``(1 - (1 - pull)^n) / pull``.
    """
    way = speed = 0.0
    for _ in range(n_steps):
        speed = momentum * speed + 1.0 - pull * way
        way += speed
    return way

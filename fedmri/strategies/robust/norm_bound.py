"""Norm bound: no site's change counts for more than a stated length.

Sun, Kairouz, Suresh and McMahan 2019, arXiv:1911.07963.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fedmri.claims import Claims
from fedmri.errors import require
from fedmri.round import ServerState, Update, Weights
from fedmri.strategies.all_at_once import ROBUST_CLAIMS
from fedmri.strategies.averaging.fedavg import FedAvg


@dataclass(frozen=True)
class NormBound(FedAvg):
    """FedAvg of changes that are scaled down to a norm of ``max_change`` at most.

    Attributes:
        max_change: Largest L2 norm of the change of a site's parameters together.
    """

    max_change: float = 1.0

    claims: ClassVar[Claims] = ROBUST_CLAIMS
    source: ClassVar[str] = "Sun et al. 2019, arXiv:1911.07963"
    consent: ClassVar[str] = "the server scales down an update that is larger than a bound"

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.max_change
        require(most > 0, "strategy.max_change", most, "a positive number")

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        names = state.layout.parameters

        def bounded() -> Iterator[Update]:
            for update in updates:
                changes = {
                    name: value - state.model[name]
                    for name, value in sorted(update.weights.items())
                    if name in names
                }
                norms = [torch.linalg.vector_norm(change) for change in changes.values()]
                norm = float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
                near: Weights = {}
                if norm > self.max_change:
                    scale = self.max_change / norm
                    near = {n: state.model[n] + scale * change for n, change in changes.items()}
                yield replace(update, weights={**update.weights, **near})
                del update, changes, near

        return super().aggregate(state, bounded(), out)

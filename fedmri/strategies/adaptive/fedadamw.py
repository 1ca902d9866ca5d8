"""FedAdamW: sites go on with the average of their second moments.

Liu et al. 2025, FedAdamW: a communication-efficient optimizer with convergence and generalization
guarantees for federated large models, arXiv:2510.27486.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims, Need, Needs
from fedmri.round import (
    ExtraForms,
    Form,
    Layout,
    Phase,
    ServerState,
    SiteMemory,
    SiteRound,
    Trained,
    Update,
    Weights,
)
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.moments import SQUARES, filled

if TYPE_CHECKING:
    import torch

UNIT = 2.0**-20
"""What a second moment is sent in: it is small, and secure sums round what they add."""


@dataclass(frozen=True)
class FedAdamW(FedAvg):
    """FedAvg whose sites keep Adam's first moment, and take the mean of all second moments.

    Of the source it has the averaged second moments alone: whole ones, not a number a block. The
    source's pull towards the last global change is left out. As many numbers again travel.
    """

    claims: ClassVar[Claims] = frozenset(
        {Claim.SUM_IS_ENOUGH, Claim.BLIND_TO_PATIENTS, Claim.ONE_MODEL}
    )
    needs: ClassVar[Needs] = frozenset({Need.KEPT_ADAM})
    source: ClassVar[str] = "Liu et al. 2025, arXiv:2510.27486"
    consent: ClassVar[str] = "beside your model leave the mean squares of its gradients"

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one, which goes on with the mean second moments."""
        common = before.extra.get(SQUARES, {})
        return (Phase(squares={name: value * UNIT for name, value in common.items()}),)

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Send the second moments as they are after the round."""
        own = trained["train"].squares
        return SiteMemory(extra={SQUARES: {name: value / UNIT for name, value in own.items()}})

    def extra_forms(self, shared: Mapping[str, torch.Tensor], layout: Layout) -> ExtraForms:
        """Declare a second moment for each number of the trainable parameters."""
        names = sorted(layout.parameters & shared.keys())
        return {SQUARES: {n: Form(shared[n].dtype, tuple(shared[n].shape)) for n in names}}

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the initial model, and second moments of zeros, which no site takes."""
        return ServerState(model, layout, {SQUARES: filled(model, layout, 0.0)})

    def broadcast(self, state: ServerState) -> Mapping[str, Weights]:
        """Send the mean second moments."""
        return {SQUARES: state.memory[SQUARES]}

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        squares, total = filled(state.model, state.layout, 0.0), 0.0

        def tapped() -> Iterator[Update]:
            nonlocal total
            for update in updates:
                weight = self.weigh(update)
                total += weight
                for name, value in update.extra[SQUARES].items():
                    squares[name].add_(value, alpha=weight)
                yield update
                del update

        new = super().aggregate(state, tapped(), out)
        mean = {name: value / total for name, value in squares.items()}
        return replace(new, memory={SQUARES: mean})

"""FedDyn: each site's objective is bent so that all sites agree at the optimum.

Acar, Zhao, Navarro, Mattina, Whatmough and Saligrama 2021, arXiv:2111.04263.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
from fedmri.strategies import taken
from fedmri.strategies.fedavg import FedAvg
from fedmri.strategies.mean import WEIGHTINGS, weighted_mean
from fedmri.strategies.terms import both, pull, shift

GRADIENT, SITES = "gradient", "sites"


@dataclass(frozen=True)
class FedDyn(FedAvg):
    """Sites minimise ``f_k(w) - <g_k, w> + mu / 2 |w - received|^2``; the server corrects the mean.

    Its limit is the optimum of the sites' unweighted mean objective, also where a part of the
    sites takes part in a round; ``weighting`` must be ``uniform``.
    """

    mu: float = 0.1

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one, with the gradient of the bent objective's two further terms."""
        own = taken.last_taken(before, GRADIENT)
        towards = pull(before.received, self.mu)
        if not own:
            return (Phase(term=towards),)
        away = shift({name: -value for name, value in own.items()})
        return (Phase(term=both(towards, away)),)

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Keep ``g_k - mu (trained - received)``; send the answer's ticket."""
        old, result = taken.last_taken(before, GRADIENT), trained["train"]
        new: Weights = {}
        for name in sorted(before.layout.parameters & before.received.keys()):
            moved = (result.weights[name] - before.received[name]).mul_(-self.mu)
            new[name] = moved.add_(old[name]) if old else moved
        extra = {taken.TICKET: taken.ticket(before)}
        return SiteMemory(taken.kept(before, GRADIENT, new), extra)

    def extra_forms(self, shared: Mapping[str, torch.Tensor], layout: Layout) -> ExtraForms:
        """Declare the answer's ticket."""
        return {taken.TICKET: taken.TICKET_FORM}

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the initial model, and a sum of the sites' ``g_k`` that is zero."""
        names = sorted(layout.parameters & model.keys())
        gradient = {name: torch.zeros_like(model[name]) for name in names}
        return ServerState(model, layout, {GRADIENT: gradient})

    def broadcast(self, state: ServerState) -> Mapping[str, Weights]:
        """Send the tickets of the answers that are in the sum."""
        return {taken.TICKETS: taken.broadcast(state.memory.get(taken.TICKETS, {}))}

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with ``mean - h / mu`` in ``out``; see ``Strategy.aggregate``.

        ``h`` is the mean of ``g_k`` over all sites that were ever there.
        """
        tickets = dict(state.memory.get(taken.TICKETS, {}))
        gradient = {name: value.clone() for name, value in state.memory[GRADIENT].items()}

        def tapped() -> Iterator[Update]:
            for update in updates:
                if update.n_examples > 0:
                    tickets[update.site] = taken.ticket_of(update)
                    for name, total in gradient.items():
                        if name in update.weights:
                            moved = update.weights[name] - state.model[name]
                            total.add_(moved, alpha=-self.mu)
                yield update
                del update

        mean = weighted_mean(state.model, tapped(), WEIGHTINGS["uniform"], out)
        for name, total in gradient.items():
            mean[name].sub_(total, alpha=1 / (self.mu * len(tickets)))
        return replace(state, model=mean, memory={GRADIENT: gradient, taken.TICKETS: tickets})

"""FedDyn: each site's objective is bent so that all sites agree at the optimum.

Acar, Zhao, Navarro, Mattina, Whatmough and Saligrama 2021, arXiv:2111.04263.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fedmri.claims import Claim, Claims
from fedmri.errors import require
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
from fedmri.strategies import tickets
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.mean import Weighting, weighted_mean
from fedmri.strategies.terms import both, pull, shift

GRADIENT, SITES = "gradient", "sites"


@dataclass(frozen=True)
class FedDyn(FedAvg):
    """Sites minimise ``f_k(w) - <g_k, w> + mu / 2 |w - received|^2``; the server corrects the mean.

    Its limit is the optimum of the sites' unweighted mean objective, also where a part of the
    sites takes part in a round.

    Attributes:
        weighting: ``uniform``, as the correction counts every site once.
        server_lr: 1, as the correction is of the whole step.
        mu: Bend of the objective, above 0.
    """

    weighting: Weighting = "uniform"
    mu: float = 0.1

    claims: ClassVar[Claims] = frozenset({Claim.BLIND_TO_PATIENTS, Claim.ONE_MODEL})
    source: ClassVar[str] = "Acar et al. 2021, arXiv:2111.04263"
    consent: ClassVar[str] = (
        "a correction that stays at your site bends its training; a random number leaves with "
        "your model"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mu > 0, "strategy.mu", self.mu, "above 0 for feddyn")
        require(self.server_lr == 1, "strategy.server_lr", self.server_lr, "1 for feddyn")
        is_uniform = self.weighting == "uniform"
        require(is_uniform, "strategy.weighting", self.weighting, "uniform for feddyn")

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one, with the gradient of the bent objective's two further terms."""
        own = tickets.last_taken(before, GRADIENT)
        towards = pull(before.received, self.mu)
        if not own:
            return (Phase(term=towards),)
        away = shift({name: -value for name, value in own.items()})
        return (Phase(term=both(towards, away)),)

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Keep ``g_k - mu (trained - received)``; send the answer's ticket."""
        old, result = tickets.last_taken(before, GRADIENT), trained["train"]
        new: Weights = {}
        for name in sorted(before.layout.parameters & before.received.keys()):
            moved = (result.weights[name] - before.received[name]).mul_(-self.mu)
            new[name] = moved.add_(old[name]) if old else moved
        extra = {tickets.TICKET: tickets.ticket(before)}
        return SiteMemory(tickets.kept(before, GRADIENT, new), extra)

    def extra_forms(self, shared: Mapping[str, torch.Tensor], layout: Layout) -> ExtraForms:
        """Declare the answer's ticket."""
        return {tickets.TICKET: tickets.TICKET_FORM}

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the initial model, and a sum of the sites' ``g_k`` that is zero."""
        names = sorted(layout.parameters & model.keys())
        gradient = {name: torch.zeros_like(model[name]) for name in names}
        return ServerState(model, layout, {GRADIENT: gradient})

    def broadcast(self, state: ServerState) -> Mapping[str, Weights]:
        """Send the tickets of the answers that are in the sum."""
        return {tickets.TICKETS: tickets.broadcast(state.memory.get(tickets.TICKETS, {}))}

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with ``mean - h / mu`` in ``out``; see ``Strategy.aggregate``.

        ``h`` is the mean of ``g_k`` over all sites that were ever there.
        """
        numbers = dict(state.memory.get(tickets.TICKETS, {}))
        gradient = {name: value.clone() for name, value in state.memory[GRADIENT].items()}

        def tapped() -> Iterator[Update]:
            for update in updates:
                if update.n_examples > 0:
                    numbers[update.site] = tickets.ticket_of(update)
                    for name, total in gradient.items():
                        if name in update.weights:
                            moved = update.weights[name] - state.model[name]
                            total.add_(moved, alpha=-self.mu)
                yield update
                del update

        mean = weighted_mean(state.model, tapped(), self.weigh, out)
        for name, total in gradient.items():
            mean[name].sub_(total, alpha=1 / (self.mu * len(numbers)))
        return replace(state, model=mean, memory={GRADIENT: gradient, tickets.TICKETS: numbers})

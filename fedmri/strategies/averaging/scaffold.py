"""SCAFFOLD: control variates take the drift out of sites' steps.

Karimireddy, Kale, Mohri, Reddi, Stich and Suresh 2020, arXiv:1910.06378, option II.
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
from fedmri.strategies.terms import shift

CONTROL, WEIGHT = "control", "weight"


@dataclass(frozen=True)
class Scaffold(FedAvg):
    """FedAvg whose sites step along ``g - c_k + c``, the pooled gradient's direction.

    The server's ``c`` is the mean of the sites' ``c_k`` with the weights of the model's mean, so
    that the limit is the optimum of the weighted objective (the paper's 1/K would lead to that of
    the unweighted one). It needs plain SGD. Twice FedAvg's bytes travel, both ways.
    """

    claims: ClassVar[Claims] = frozenset({Claim.BLIND_TO_PATIENTS, Claim.ONE_MODEL})
    source: ClassVar[str] = "Karimireddy et al. 2020, arXiv:1910.06378"
    needs: ClassVar[Needs] = frozenset({Need.PLAIN_SGD})
    consent: ClassVar[str] = "beside your model leaves the mean direction of your training steps"

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one, whose gradients are shifted by ``c - c_k``."""
        own = tickets.last_taken(before, CONTROL)
        common = before.extra[CONTROL]
        by = {name: value - own[name] if own else value for name, value in common.items()}
        return (Phase(term=shift(by)),)

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Keep ``c_k - c + (received - trained) / sum of rates``; send its change."""
        result, common = trained["train"], before.extra[CONTROL]
        old = tickets.last_taken(before, CONTROL)
        old = old or {name: torch.zeros_like(value) for name, value in common.items()}
        new = old
        if result.n_steps:
            new = {
                name: (before.received[name] - result.weights[name])
                .div_(result.rate_sum)
                .add_(old[name])
                .sub_(value)
                for name, value in common.items()
            }
        change = {name: value - old[name] for name, value in new.items()}
        extra = {CONTROL: change, tickets.TICKET: tickets.ticket(before)}
        return SiteMemory(tickets.kept(before, CONTROL, new), extra)

    def extra_forms(self, shared: Mapping[str, torch.Tensor], layout: Layout) -> ExtraForms:
        """Declare the change of the site's control variate, and the answer's ticket."""
        names = sorted(layout.parameters & shared.keys())
        control = {n: Form(shared[n].dtype, tuple(shared[n].shape)) for n in names}
        return {CONTROL: control, tickets.TICKET: tickets.TICKET_FORM}

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the initial model and control variates of zeros."""
        names = sorted(layout.parameters & model.keys())
        return ServerState(model, layout, {CONTROL: {n: torch.zeros_like(model[n]) for n in names}})

    def broadcast(self, state: ServerState) -> Mapping[str, Weights]:
        """Send the mean control variate, and the tickets of the answers that are in it."""
        weight = state.memory.get(WEIGHT, {})
        total = sum(float(weight[site]) for site in sorted(weight)) or 1.0
        taken = tickets.broadcast(state.memory.get(tickets.TICKETS, {}))
        mean = {name: value / total for name, value in state.memory[CONTROL].items()}
        return {CONTROL: mean, tickets.TICKETS: taken}

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``.

        The weighted sum of control variates moves by the sites' changes; that of an absent site is
        still in it.
        """
        weight = dict(state.memory.get(WEIGHT, {}))
        numbers = dict(state.memory.get(tickets.TICKETS, {}))
        control = {name: value.clone() for name, value in state.memory[CONTROL].items()}

        def tapped() -> Iterator[Update]:
            for update in updates:
                if self.weigh(update) > 0:
                    weight[update.site] = torch.tensor(self.weigh(update), dtype=torch.float64)
                    numbers[update.site] = tickets.ticket_of(update)
                    for name, change in update.extra[CONTROL].items():
                        control[name].add_(change, alpha=self.weigh(update))
                yield update
                del update

        new = super().aggregate(state, tapped(), out)
        memory = {CONTROL: control, WEIGHT: weight, tickets.TICKETS: numbers}
        return replace(new, memory=memory)

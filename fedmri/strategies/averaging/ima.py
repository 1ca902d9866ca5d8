"""IMA: sites start from the average of the last global models, and the run ends with it.

Zhou et al. 2023, Understanding and improving model averaging in federated learning on
heterogeneous data, arXiv:2305.07845.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fedmri.claims import Claims
from fedmri.errors import require
from fedmri.round import Layout, ServerState, Update, Weights
from fedmri.strategies.averaging.fedavg import FedAvg

ROUNDS, N_DONE = "rounds", "n"


@dataclass(frozen=True)
class IMA(FedAvg):
    """FedAvg, whose model is the average of the means of the last rounds.

    The server keeps as many models as it averages.

    Attributes:
        window: Rounds whose means are averaged.
        n_free: Rounds of plain FedAvg before; the source averages in the last quarter.
    """

    window: int = 5
    n_free: int = 0

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Zhou et al. 2023, arXiv:2305.07845"
    consent: ClassVar[str] = "the server averages the models of all hospitals and of some rounds"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.window >= 1, "strategy.window", self.window, "1 or more")
        require(self.n_free >= 0, "strategy.n_free", self.n_free, "0 or more")

    def start(self, model: Weights, layout: Layout) -> ServerState:
        """Return the initial model, and that no round was done."""
        return ServerState(model, layout, {ROUNDS: {N_DONE: torch.tensor(0)}})

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        n_done = int(state.memory[ROUNDS][N_DONE]) + 1
        new = super().aggregate(state, updates, out)
        counted = {ROUNDS: {N_DONE: torch.tensor(n_done)}}
        if n_done <= self.n_free:
            return replace(new, memory=counted)
        slots = sorted(slot for slot in state.memory if slot != ROUNDS)
        last = [state.memory[slot] for slot in slots][: self.window - 1]
        newest = {
            name: value.clone() for name, value in new.model.items() if value.is_floating_point()
        }
        for name in newest:
            for one in last:
                new.model[name].add_(one[name])
            new.model[name].div_(1 + len(last))
        kept = {f"model {age:04}": one for age, one in enumerate([newest, *last])}
        return replace(new, memory={**counted, **kept})

"""Cyclic weight transfer, the "travelling model": one site trains after another.

Chang et al. 2018, Distributed deep learning networks among institutions for medical imaging,
doi:10.1093/jamia/ocy017. Souza et al. 2024, the travelling model for sites with one or two
patients, doi:10.1093/jamia/ocad220.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from fedmri.claims import Claim, Claims
from fedmri.round import ServerState, Update, Weights
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.mean import in_site_order, step_to


@dataclass(frozen=True)
class Cyclic(FedAvg):
    """The model travels: each site goes on from where the one before it stopped.

    A round is one journey over all sites, begun one site later each time, so that no site is
    always the last that the model has seen. Nothing is averaged; a site with one patient moves the
    model as far as any other.
    """

    claims: ClassVar[Claims] = FedAvg.claims - {Claim.SUM_IS_ENOUGH, Claim.LATE_IS_FINE}
    source: ClassVar[str] = "Chang et al. 2018, doi:10.1093/jamia/ocy017"
    consent: ClassVar[str] = (
        "the model travels from hospital to hospital; the server sees the model that you trained"
    )

    def turns(self, sites: tuple[str, ...], round_index: int) -> tuple[tuple[str, ...], ...]:
        """Return one site a turn."""
        first = (round_index - 1) % max(1, len(sites))
        return tuple((site,) for site in sites[first:] + sites[:first])

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the last site's model in ``out``, or the model as it was."""
        for name, value in state.model.items():
            out[name].copy_(value)
        for update in in_site_order(updates):
            if update.n_examples > 0:
                for name, value in update.weights.items():
                    out[name].copy_(value)
            del update
        step_to(out, state, self.server_lr)
        return replace(state, model=out)

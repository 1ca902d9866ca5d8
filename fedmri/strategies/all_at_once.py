"""What rules share that see all updates of a round at once.

They cost something where nobody is bad: hospitals differ, and what differs is taken for an outlier.
Updates wait on the disk, so memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from fedmri.claims import Claim
from fedmri.errors import RoundError, require
from fedmri.round import ServerState, Update, Weights
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.mean import in_site_order, nobody_trained, step_to
from fedmri.strategies.spool import Spool

ROBUST_CLAIMS = FedAvg.claims - {Claim.SUM_IS_ENOUGH, Claim.LATE_IS_FINE}


@dataclass(frozen=True)
class AllAtOnce(FedAvg):
    """A rule that sees all updates of a round at once; ``combine`` says which."""

    @property
    def n_least(self) -> int:
        """Sites that the rule says anything of."""
        return 1

    def turns(self, sites: tuple[str, ...], round_index: int) -> tuple[tuple[str, ...], ...]:
        """Return one turn; raise RoundError R09 before too few sites train for nothing."""
        self._require(len(sites))
        return super().turns(sites, round_index)

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the combined floating entries to ``out``."""
        raise NotImplementedError

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        with Spool(state.model, state.layout.parameters) as spool:
            sites = []
            for update in in_site_order(updates):
                spool.add(update, self.weigh(update))
                sites.append(update.site)
                del update
            if not spool.weights:
                raise nobody_trained(sites)
            self._require(len(spool.weights))
            self.combine(spool, out)
        step_to(out, state, self.server_lr)
        return replace(state, model=out)

    def _require(self, n_sites: int) -> None:
        if n_sites < self.n_least:
            fix = "set strategy=fedavg; fewer strategy.n_outliers need fewer sites, krum always 5"
            what, want = f"sites for {type(self).__name__}", f"{self.n_least} or more"
            raise RoundError("R09", what, found=f"{n_sites}", want=want, fix=fix)


@dataclass(frozen=True)
class WithOutliers(AllAtOnce):
    """A rule that puts up with a number of bad sites.

    Attributes:
        n_outliers: Bad sites that are put up with.
    """

    n_outliers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_outliers >= 0, "strategy.n_outliers", self.n_outliers, "0 or more")


def middle(values: torch.Tensor, n_cut: int) -> torch.Tensor:
    """Return the mean over the first axis without the extremes."""
    ordered = values.sort(dim=0).values
    return ordered[n_cut : len(ordered) - n_cut].mean(dim=0)

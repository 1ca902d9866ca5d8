"""FedProx: sites are pulled towards the model that they received.

Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith 2020, Federated optimization in heterogeneous
networks, arXiv:1812.06127.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claims
from fedmri.errors import require
from fedmri.round import Phase, SiteRound
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.terms import pull


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg of sites that minimise their loss plus ``mu / 2`` times the squared distance.

    The fixed point is not the optimum of the pooled data: the pull trades drift between sites for a
    bias.

    Attributes:
        mu: Pull of a site towards the received model; 0 is FedAvg to the bit.
    """

    mu: float = 0.01

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Li et al. 2020, arXiv:1812.06127"
    consent: ClassVar[str] = "your training is pulled towards the model that it started from"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mu >= 0, "strategy.mu", self.mu, "0 or more")

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one, with the gradient of the proximal term, ``mu * (weights - received)``."""
        return (Phase(term=pull(before.received, self.mu) if self.mu else None),)

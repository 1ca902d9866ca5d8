"""FedProx: sites are pulled towards the model that they received.

Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith 2020, Federated optimization in heterogeneous
networks, arXiv:1812.06127.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmri.round import Phase, SiteRound
from fedmri.strategies.fedavg import FedAvg
from fedmri.strategies.terms import pull


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg of sites that minimise their loss plus ``mu / 2`` times the squared distance.

    ``mu`` 0 is FedAvg to the bit. The fixed point is not the optimum of the pooled data: the pull
    trades drift between sites for a bias.
    """

    mu: float = 0.01

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one, with the gradient of the proximal term, ``mu * (weights - received)``."""
        return (Phase(term=pull(before.received, self.mu) if self.mu else None),)

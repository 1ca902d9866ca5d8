"""Ditto: beside the shared model each site trains one of its own, pulled towards it.

Li, Hu, Beirami and Smith 2021, Ditto, arXiv:2012.04221.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import require
from fedmri.round import Phase, SiteMemory, SiteRound, Trained, Weights
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.terms import pull

PERSONAL = "personal"


@dataclass(frozen=True)
class Ditto(FedAvg):
    """FedAvg, and at each site a second model that is pulled towards the global one.

    The second model stays at the site, which is scored with it. A site takes twice the steps of
    FedAvg.

    Attributes:
        mu: Pull of the second model; 0 is local training, a large one the global model.
    """

    mu: float = 0.1

    claims: ClassVar[Claims] = FedAvg.claims - {Claim.ONE_MODEL}
    source: ClassVar[str] = "Li et al. 2021, arXiv:2012.04221"
    consent: ClassVar[str] = "your site keeps a second model of its own, and is scored with it"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mu >= 0, "strategy.mu", self.mu, "0 or more")

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return FedAvg's, then the personal model's."""
        start = before.memory.get(PERSONAL, before.received)
        term = pull(before.received, self.mu) if self.mu else None
        return (Phase(), Phase(PERSONAL, term=term, start=start))

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Keep the personal model."""
        return SiteMemory({PERSONAL: dict(trained[PERSONAL].weights)})

    def own_model(self, memory: Mapping[str, Weights]) -> Weights:
        """Return the personal model, where the site has trained one."""
        return memory.get(PERSONAL, {})

"""Models of a site's own: Ditto's second model, and the private heads of FedPer and FedRep.

Li, Hu, Beirami and Smith 2021, Ditto, arXiv:2012.04221. Arivazhagan, Aggarwal, Singh and Choudhary
2019, FedPer, arXiv:1912.00818. Collins, Hassani, Mokhtari and Shakkottai 2021, FedRep,
arXiv:2102.07078.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedmri.errors import ConfigError
from fedmri.round import Layout, Phase, SiteMemory, SiteRound, Trained, Weights
from fedmri.strategies.fedavg import FedAvg
from fedmri.strategies.terms import pull

PERSONAL = "personal"


@dataclass(frozen=True)
class Ditto(FedAvg):
    """FedAvg, and at each site a second model that is pulled towards the global one by ``mu``.

    The second model stays at the site, which is scored with it; ``mu`` 0 is local training, a
    large one the global model. A site takes twice the steps of FedAvg.
    """

    mu: float = 0.1

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


@dataclass(frozen=True)
class FedPer(FedAvg):
    """FedAvg of everything but the last layer, which each site trains for itself."""

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return the head; raise ConfigError C03 where there is no telling which it is."""
        if not layout.head:
            fix = "set another model, or strategy=fedavg"
            want, found = "a network with a last layer", "none"
            raise ConfigError("C03", "strategy with own heads", found=found, want=want, fix=fix)
        return layout.head


@dataclass(frozen=True)
class FedRep(FedPer):
    """FedPer that trains the head with the body frozen, and then the body with the head frozen.

    Args:
        head_share: Share of a round's steps that train the head.
    """

    head_share: float = 0.5

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return two: head, then body."""
        head = before.layout.head
        body = before.layout.parameters - head
        return (
            Phase("head", share=self.head_share, frozen=body),
            Phase(share=1 - self.head_share, frozen=head),
        )

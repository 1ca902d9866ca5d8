"""MOON: what a site makes of an image is kept close to what the received model makes of it.

Li, He and Song 2021, Model-contrastive federated learning, arXiv:2103.16257.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claim, Claims, Need, Needs
from fedmri.errors import require
from fedmri.round import Phase, SiteMemory, SiteRound, Trained
from fedmri.strategies.averaging.fedavg import FedAvg

PREVIOUS = "previous"


@dataclass(frozen=True)
class Moon(FedAvg):
    """FedAvg of sites whose embeddings are pulled to the received model's, away from their last.

    In a site's first round its last model is the received one, so the contrast is the logarithm of
    2 for each example at the start.

    Attributes:
        mu: Factor of the contrast of embeddings; 0 is FedAvg to the bit.
        temperature: Of that contrast: a small one counts small differences much.
    """

    mu: float = 1.0
    temperature: float = 0.5

    claims: ClassVar[Claims] = FedAvg.claims - {Claim.BLIND_TO_PATIENTS}
    source: ClassVar[str] = "Li, He and Song 2021, arXiv:2103.16257"
    needs: ClassVar[Needs] = frozenset({Need.EMBEDDING})
    consent: ClassVar[str] = (
        "your training keeps what the network makes of an image near to what it made of it before"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mu >= 0, "strategy.mu", self.mu, "0 or more")
        temperature = self.temperature
        require(temperature > 0, "strategy.temperature", temperature, "a positive number")

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one, with the contrast."""
        from fedmri.strategies.contrast import Contrast

        if not self.mu:
            return (Phase(),)
        last = before.memory.get(PREVIOUS, before.received)
        return (Phase(loss=Contrast(before.received, last, self.mu, self.temperature)),)

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Keep the model that the site trained: what the next round is pushed away from."""
        return SiteMemory({PREVIOUS: dict(trained[Phase().name].weights)} if self.mu else {})

"""FedRep: each site's own last layer is trained first, and the shared body after it.

Collins, Hassani, Mokhtari and Shakkottai 2021, FedRep, arXiv:2102.07078.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claims
from fedmri.errors import require
from fedmri.round import Phase, SiteRound
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.personal.fedper import FedPer


@dataclass(frozen=True)
class FedRep(FedPer):
    """FedPer that trains the head with the body frozen, and then the body with the head frozen.

    Attributes:
        head_share: Share of a round's steps that train the head alone.
    """

    head_share: float = 0.5

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Collins et al. 2021, arXiv:2102.07078"
    consent: ClassVar[str] = "the last layer of the network stays at your site"

    def __post_init__(self) -> None:
        super().__post_init__()
        share = self.head_share
        require(0 < share < 1, "strategy.head_share", share, "above 0, below 1")

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return two: head, then body."""
        head = before.layout.head
        body = before.layout.parameters - head
        return (
            Phase("head", share=self.head_share, frozen=body),
            Phase(share=1 - self.head_share, frozen=head),
        )

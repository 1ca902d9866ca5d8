"""MOON: what a site makes of an image is kept close to what the received model makes of it.

Li, He and Song 2021, Model-contrastive federated learning, arXiv:2103.16257.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedmri.round import Contrast, Phase, SiteMemory, SiteRound, Trained
from fedmri.strategies.fedavg import FedAvg

PREVIOUS = "previous"


@dataclass(frozen=True)
class Moon(FedAvg):
    """FedAvg of sites whose embeddings are pulled to the received model's, away from their last.

    ``mu`` 0 is FedAvg to the bit. In a site's first round its last model is the received one, so
    the contrast is the logarithm of 2 for each example at the start.
    """

    mu: float = 1.0
    temperature: float = 0.5

    def phases(self, before: SiteRound) -> tuple[Phase, ...]:
        """Return one, with the contrast."""
        if not self.mu:
            return (Phase(),)
        last = before.memory.get(PREVIOUS, before.received)
        return (Phase(contrast=Contrast(before.received, last, self.mu, self.temperature)),)

    def remember(self, before: SiteRound, trained: Mapping[str, Trained]) -> SiteMemory:
        """Keep the model that the site trained: what the next round is pushed away from."""
        return SiteMemory({PREVIOUS: dict(trained[Phase().name].weights)} if self.mu else {})

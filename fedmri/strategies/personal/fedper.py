"""FedPer: each site trains a last layer of its own.

Arivazhagan, Aggarwal, Singh and Choudhary 2019, FedPer, arXiv:1912.00818.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claims
from fedmri.errors import ConfigError
from fedmri.round import Layout
from fedmri.strategies.averaging.fedavg import FedAvg


@dataclass(frozen=True)
class FedPer(FedAvg):
    """FedAvg of everything but the last layer, which each site trains for itself."""

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Arivazhagan et al. 2019, arXiv:1912.00818"
    consent: ClassVar[str] = "the last layer of the network stays at your site"

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return the head; raise ConfigError C03 where there is no telling which it is."""
        if not layout.head:
            fix = "set another model, or strategy=fedavg"
            want, found = "a network with a last layer", "none"
            raise ConfigError("C03", "strategy with own heads", found=found, want=want, fix=fix)
        return layout.head

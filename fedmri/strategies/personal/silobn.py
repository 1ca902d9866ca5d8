"""SiloBN: running statistics of batch norm stay at the site; its scale and shift are shared.

Andreux, du Terrail, Beguier and Tramel 2020, Siloed federated learning for multi-centric
histopathology, arXiv:2008.07424.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claims
from fedmri.round import Layout
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.batch_norm import require_batch_norm


@dataclass(frozen=True)
class SiloBN(FedAvg):
    """FedAvg that shares batch norm's scale and shift but keeps running statistics local."""

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Andreux et al. 2020, arXiv:2008.07424"
    consent: ClassVar[str] = "running statistics of batch norm stay at your site"

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return the running statistics; raise ConfigError C03 where there are none."""
        return require_batch_norm(layout, "silobn").norm_statistics

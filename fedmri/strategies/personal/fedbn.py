"""FedBN: batch norm stays at the site, because a scanner's intensities are its own.

Li, Jiang, Zhang, Kamp and Dou 2021, FedBN, arXiv:2102.07623.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claims
from fedmri.round import Layout
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.batch_norm import require_batch_norm


@dataclass(frozen=True)
class FedBN(FedAvg):
    """FedAvg of everything but batch norm: scale, shift and running statistics stay local."""

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Li et al. 2021, arXiv:2102.07623"
    consent: ClassVar[str] = (
        "batch norm stays at your site: its scale, shift and running statistics"
    )

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return all entries of batch-norm layers; raise ConfigError C03 where there are none."""
        return require_batch_norm(layout, "fedbn").norm_parameters | layout.norm_statistics

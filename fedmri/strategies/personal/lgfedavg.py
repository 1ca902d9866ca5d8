"""LG-FedAvg: the last layer is shared, and the representation under it is each site's own.

Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov and Morency 2020, Think locally, act
globally, arXiv:2001.01523.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import ConfigError
from fedmri.round import Layout
from fedmri.strategies.averaging.fedavg import FedAvg


@dataclass(frozen=True)
class LGFedAvg(FedAvg):
    """FedAvg of the last layer alone: few numbers leave, so that a site's release can be noised."""

    claims: ClassVar[Claims] = FedAvg.claims - {Claim.ONE_MODEL}
    source: ClassVar[str] = "Liang et al. 2020, arXiv:2001.01523"
    consent: ClassVar[str] = "the last layer of the network alone leaves your site"

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return all but the head; raise ConfigError C03 where there is no telling which it is."""
        if not layout.head:
            fix = "set another model, or strategy=fedavg"
            want, found = "a network with a last layer", "none"
            raise ConfigError("C03", "strategy lgfedavg", found=found, want=want, fix=fix)
        return (layout.parameters | layout.norm_parameters | layout.norm_statistics) - layout.head

"""FedYogi: as FedAdam, but the second moment moves by the size of the new square.

Reddi et al. 2021, Adaptive federated optimization, arXiv:2003.00295.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fedmri.claims import Claims
from fedmri.strategies.adaptive.fedadam import FedAdam
from fedmri.strategies.averaging.fedavg import FedAvg


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """Yogi at the server: the second moment moves by the size of the new square, not the gap."""

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Reddi et al. 2021, arXiv:2003.00295"
    consent: ClassVar[str] = (
        "the server takes the mean change of all hospitals for a gradient, and steps along it"
    )

    def next_squares(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the second moment after a change whose square is given."""
        return old - (1 - self.beta2) * new * torch.sign(old - new)

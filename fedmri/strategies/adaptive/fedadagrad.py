"""FedAdagrad: as FedAdam, but the squares of all changes add up.

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
class FedAdagrad(FedAdam):
    """Adagrad at the server: squares add up.

    Attributes:
        beta: Decay of the first moment; 0 takes the change itself.
    """

    beta: float = 0.0

    claims: ClassVar[Claims] = FedAvg.claims
    source: ClassVar[str] = "Reddi et al. 2021, arXiv:2003.00295"
    consent: ClassVar[str] = (
        "the server takes the mean change of all hospitals for a gradient, and steps along it"
    )

    def next_squares(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the second moment after a change whose square is given."""
        return old + new

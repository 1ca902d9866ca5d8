"""DiLoCo: Nesterov momentum at the server over sites that keep the state of AdamW.

Douillard et al. 2023, DiLoCo: distributed low-communication training of language models,
arXiv:2311.08105.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fedmri.claims import Claims, Need, Needs
from fedmri.strategies.adaptive.fedavgm import FedAvgM
from fedmri.strategies.averaging.fedavg import FedAvg


@dataclass(frozen=True)
class DiLoCo(FedAvgM):
    """``v = beta v + change``, ``model += server_lr (change + beta v)``.

    The source takes ``server_lr`` 0.7 with ``beta`` 0.9, seven times as far as averaging. The
    default goes as far as averaging in the long run. Set ``train.is_optimizer_kept=true``.
    """

    claims: ClassVar[Claims] = FedAvg.claims
    needs: ClassVar[Needs] = frozenset({Need.KEPT_OPTIMIZER})
    source: ClassVar[str] = "Douillard et al. 2023, arXiv:2311.08105"
    consent: ClassVar[str] = (
        "the server averages all models, and goes on in the direction of earlier rounds"
    )

    def step(self, change: torch.Tensor, momentum: torch.Tensor) -> torch.Tensor:
        """Look ahead: the change, and where the momentum goes next."""
        return change.add(momentum, alpha=self.beta)

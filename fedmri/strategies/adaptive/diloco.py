"""DiLoCo: Nesterov momentum at the server over sites that keep the state of AdamW.

Douillard et al. 2023, DiLoCo: distributed low-communication training of language models,
arXiv:2311.08105.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fedmri.claims import Claims, Need, Needs
from fedmri.round import ServerState, Update, Weights
from fedmri.strategies.adaptive.fedavgm import FedAvgM
from fedmri.strategies.averaging.fedavg import FedAvg
from fedmri.strategies.mean import weighted_mean
from fedmri.strategies.moments import MOMENTUM


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

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        mean = weighted_mean(state.model, updates, self.weigh, out)
        momentum: Weights = {}
        for name, old in state.memory[MOMENTUM].items():
            change = mean[name].sub_(state.model[name])
            momentum[name] = change.add(old, alpha=self.beta)
            step = change.add(momentum[name], alpha=self.beta)
            torch.add(state.model[name], step, alpha=self.server_lr, out=mean[name])
        return replace(state, model=mean, memory={MOMENTUM: momentum})

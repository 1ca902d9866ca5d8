"""FedProx: sites are pulled towards the model that they received.

Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith 2020, Federated optimization in heterogeneous
networks, arXiv:1812.06127.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedmri.round import GradientTerm, Weights
from fedmri.strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg of sites that minimise their loss plus ``mu / 2`` times the squared distance.

    ``mu`` 0 is FedAvg to the bit. The fixed point is not the optimum of the pooled data: the pull
    trades drift between sites for a bias.
    """

    mu: float = 0.01

    def gradient_term(self, received: Weights) -> GradientTerm | None:
        """Return the gradient of the proximal term, ``mu * (weights - received)``."""
        if self.mu == 0:
            return None

        def pull(network: torch.nn.Module) -> None:
            for name, parameter in network.named_parameters():
                if parameter.grad is not None and name in received:
                    anchor = received[name].to(parameter.device)
                    parameter.grad.add_(parameter.detach() - anchor, alpha=self.mu)

        return pull

"""What is attacked: an update as it would leave, and what an attacker needs to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from fedmri.errors import PrivacyError
from fedmri.round import Weights

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Mean loss of a batch: raw outputs and ``Batch.target``."""


@dataclass(frozen=True)
class Release:
    """An update before it leaves, as the server would see it.

    Attributes:
        build: Makes the network of the plan, with any weights.
        loss: What the site minimised.
        before: Entries that the site was sent.
        after: The same entries as it would send them: clipped, noised, rounded.
    """

    build: Callable[[], nn.Module]
    loss: Loss
    before: Weights
    after: Weights

    def network(self, values: Weights) -> nn.Module:
        """Return the network with some weights, in evaluation mode and without dropout."""
        network = self.build().eval()
        own = network.state_dict()
        with torch.no_grad():
            for name in values.keys() & own.keys():
                own[name].copy_(values[name])
        return network

    @property
    def change(self) -> Weights:
        """What the site took away from each trained entry: in the direction of a mean gradient.

        Raises:
            PrivacyError: Nothing was changed, or to something that is not finite (P61).
        """
        names = {name for name, _ in self.network(self.before).named_parameters()}
        change = {k: self.before[k] - self.after[k] for k in sorted(names & self.after.keys())}
        size = sum(float(value.double().square().sum()) for value in change.values())
        if not 0 < size < float("inf"):
            raise unmeasured("no change, or one that is not finite", "a change of the parameters")
        return change


def unmeasured(found: str, want: str) -> PrivacyError:
    """Return the error of a meter that cannot measure (P61)."""
    fix = "hold out patients of this site, and measure an update that it trained"
    return PrivacyError("P61", "leakage meter", found=found, want=want, fix=fix)

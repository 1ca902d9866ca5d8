"""SilentMean: FedAvg by another name, which claims nothing of itself."""

from __future__ import annotations

from dataclasses import dataclass

from fedmri.strategies.averaging.fedavg import FedAvg


@dataclass(frozen=True)
class SilentMean(FedAvg):
    """It inherits all of FedAvg, but for its claims: they are not inherited."""

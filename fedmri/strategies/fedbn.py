"""FedBN and SiloBN: batch norm stays at the site, because a scanner's intensities are its own.

Li, Jiang, Zhang, Kamp and Dou 2021, FedBN, arXiv:2102.07623. Andreux, du Terrail, Beguier and
Tramel 2020, Siloed federated learning for multi-centric histopathology, arXiv:2008.07424.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmri.errors import ConfigError
from fedmri.round import Layout
from fedmri.strategies.fedavg import FedAvg


@dataclass(frozen=True)
class FedBN(FedAvg):
    """FedAvg of everything but batch norm: scale, shift and running statistics stay local."""

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return all entries of batch-norm layers; raise ConfigError C03 where there are none."""
        return _require_batch_norm(layout, "fedbn").norm_parameters | layout.norm_statistics


@dataclass(frozen=True)
class SiloBN(FedAvg):
    """FedAvg that shares batch norm's scale and shift but keeps running statistics local."""

    def local_names(self, layout: Layout) -> frozenset[str]:
        """Return the running statistics; raise ConfigError C03 where there are none."""
        return _require_batch_norm(layout, "silobn").norm_statistics


def _require_batch_norm(layout: Layout, name: str) -> Layout:
    if not layout.norm_statistics:
        fix = "set model.norm=batch, or strategy=fedavg"
        want = "a network with batch norm"
        raise ConfigError("C03", f"strategy {name}", found="no batch norm", want=want, fix=fix)
    return layout

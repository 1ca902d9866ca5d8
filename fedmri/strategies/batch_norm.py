"""What strategies ask of a network whose batch norm they treat apart."""

from __future__ import annotations

from fedmri.errors import ConfigError
from fedmri.round import Layout


def require_batch_norm(layout: Layout, name: str) -> Layout:
    """Return the layout; raise ConfigError C03 where it has no batch norm."""
    if not layout.norm_statistics:
        fix = "set model.norm=batch, or strategy=fedavg"
        want = "a network with batch norm"
        raise ConfigError("C03", f"strategy {name}", found="no batch norm", want=want, fix=fix)
    return layout

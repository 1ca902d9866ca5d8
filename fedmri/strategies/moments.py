"""What servers with an optimizer keep of the sites' mean changes: moments of each parameter.

They move trainable parameters only. Statistics of batch norm are averaged as in FedAvg, because
momentum on a running variance makes it negative.
"""

from __future__ import annotations

import torch

from fedmri.errors import require
from fedmri.round import Layout, Weights

MOMENTUM, SQUARES = "momentum", "squares"


def filled(model: Weights, layout: Layout, value: float) -> Weights:
    """Return one value for each number of the trainable parameters."""
    names = sorted(layout.parameters & model.keys())
    return {name: torch.full_like(model[name], value) for name in names}


def require_decay(name: str, value: float) -> None:
    """Refuse a decay of a moment that is no share (C01)."""
    require(0 <= value < 1, f"strategy.{name}", value, "0 or more, below 1")

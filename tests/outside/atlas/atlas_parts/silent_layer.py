"""SilentLayer: OneLayer by another name, which claims nothing of itself."""

from __future__ import annotations

from dataclasses import dataclass

from .one_layer import OneLayer


@dataclass(frozen=True)
class SilentLayer(OneLayer):
    """It inherits all of OneLayer, but for its claims: they are not inherited."""

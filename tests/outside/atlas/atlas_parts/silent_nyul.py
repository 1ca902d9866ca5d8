"""SilentNyul: a stage that claims nothing, whatever its base claims."""

from __future__ import annotations

from dataclasses import dataclass

from fedmri.stages.images.nyul import Nyul


@dataclass(frozen=True)
class SilentNyul(Nyul):
    """It inherits all of Nyúl's standard, but for its claims: they are not inherited."""

"""SilentGrade: Grade by another name, which claims nothing of itself."""

from __future__ import annotations

from dataclasses import dataclass

from .grade import Grade


@dataclass(frozen=True)
class SilentGrade(Grade):
    """It inherits all of Grade, but for its claims: they are not inherited."""

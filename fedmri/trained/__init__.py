"""A trained model as one file: what it says of itself, what it predicts, and how it is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmri.trained.model import TrainedModel

__all__ = ["TrainedModel"]


def __getattr__(name: str) -> Any:
    """Load the door of the room when it is asked for: the names alone need no PyTorch."""
    if name == "TrainedModel":
        from fedmri.trained.model import TrainedModel

        return TrainedModel
    raise AttributeError(name)

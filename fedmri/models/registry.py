"""All models by name: the files of the folders beside this one, and installed ones."""

from __future__ import annotations

from fedmri.models.model import Model
from fedmri.parts import Registry
from fedmri.round import TaskKind

MODELS = Registry[Model]("model", "fedmri.models", ("image", "voxel", "hybrid"), "fedmri.models")


def model_names(kind: TaskKind | None = None) -> tuple[str, ...]:
    """Return the names of all models, or of those that can do a kind of task."""
    return tuple(name for name in MODELS.names if kind is None or kind in MODELS.load(name).kinds)

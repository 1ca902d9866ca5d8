"""All models by name: the files of the folders beside this one, and installed ones."""

from __future__ import annotations

from fedmri.models.model import Model
from fedmri.parts import Registry
from fedmri.round import Answer

MODELS = Registry[Model](
    "model", "fedmri.models", ("image", "backbone", "voxel", "hybrid"), "fedmri.models"
)


def model_names(answer: Answer | None = None) -> tuple[str, ...]:
    """Return the names of all models, or of those that give an answer."""
    return tuple(
        name for name in MODELS.names if answer is None or answer in MODELS.load(name).kinds
    )

"""Parts that are there to be chosen, as tables."""

from __future__ import annotations

import pandas as pd

from fedmri.models.registry import MODELS
from fedmri.tasks.registry import TASKS


def list_models() -> pd.DataFrame:
    """Return the networks that can be trained, those of other distributions too.

    Columns: ``name``, ``kinds`` of targets, and ``multiple``, which the sides of images must be of.
    """
    answers = {name: TASKS.load(name).answer for name in TASKS.names}
    models = {name: MODELS.load(name) for name in MODELS.names}
    rows = [
        (name, tuple(task for task, of in answers.items() if of in model.kinds), model.multiple)
        for name, model in models.items()
    ]
    return pd.DataFrame(rows, columns=["name", "kinds", "multiple"])

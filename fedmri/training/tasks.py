"""The task of a target, by its kind."""

from __future__ import annotations

from fedmri.round import Target
from fedmri.training.classification import Classification
from fedmri.training.losses import loss_name
from fedmri.training.regression import Regression
from fedmri.training.segmentation import Segmentation
from fedmri.training.settings import TaskConfig
from fedmri.training.task import LocalTask


def make_task(target: Target, config: TaskConfig) -> LocalTask:
    """Return the task of a target; raise ConfigError C22 where the loss is not one of its own."""
    loss_name(target.kind, config)
    if target.kind == "classification":
        return Classification(target, config)
    if target.kind == "segmentation":
        return Segmentation(target, config)
    return Regression(target, config)

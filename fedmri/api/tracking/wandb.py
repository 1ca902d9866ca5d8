"""Weights & Biases, offline: ``wandb sync`` sends it, if and when you wish."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from fedmri.api.tracking.tracked import Training


def write(folder: Path, name: str, trainings: Sequence[Training], settings: str) -> None:
    """Write an offline run for each training, in a group of the run's name."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    quiet = wandb.Settings(
        console="off", silent=True, disable_git=True, x_disable_meta=True, x_disable_stats=True
    )
    for training in trainings:
        rounds: dict[int, dict[str, float]] = defaultdict(dict)
        for key, step, value in training.scalars:
            rounds[step][key] = value
        run = wandb.init(
            project="fedmri",
            group=name,
            name=training.name,
            dir=folder,
            mode="offline",
            config={"settings": settings},
            settings=quiet,
        )
        for step in sorted(rounds):
            run.log(rounds[step], step=step)
        run.finish()

"""MLflow: a data base with one run for each training.

Look at it by ``mlflow ui --backend-store-uri sqlite:///RUN/mlflow/mlflow.db``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from fedmri.api.tracking.tracked import Training

MOST = 1000
"""Metrics that MLflow takes at once."""


def write(folder: Path, name: str, trainings: Sequence[Training], settings: str) -> None:
    """Write an experiment of the run's name, and a run in it for each training."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.absolute() / 'mlflow.db'}")
    experiment = client.create_experiment(name, (folder.absolute() / "files").as_uri())
    for training in trainings:
        run = client.create_run(experiment, run_name=training.name).info.run_id
        client.log_text(run, settings, "settings.yaml")
        metrics = [Metric(key, value, 0, step) for key, step, value in training.scalars]
        for start in range(0, len(metrics), MOST):
            client.log_batch(run, metrics[start : start + MOST])
        client.set_terminated(run)

"""A model that says how sure it is of a number: its tables, and its file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.trained.conftest import Train, images


def test_predictions_have_a_deviation(train: Train, hospitals: Path, tmp_path: Path) -> None:
    """Beside the value, for each scan and patient, as the model's file has it."""
    run = train("age", "target=gaussian_regression", "target.name=age", "target.scale=20")
    found = run.model.predict(*images(hospitals, "T1w")[:2], out=tmp_path / "out")
    for name in ("predictions.tsv", "participants.tsv"):
        with (tmp_path / "out" / name).open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert len(rows) == 2
        for row, one in zip(rows, found.predicted, strict=True):
            assert one.reading is not None
            [(value, deviation)] = one.reading.predictions
            assert float(row["age"]) == pytest.approx(value)
            assert float(row["age_sd"]) == pytest.approx(deviation)
            assert np.isfinite(value)
            assert deviation > 0
    assert {"coverage_95", "gaussian_nll"} <= set(run.model.card.scores)

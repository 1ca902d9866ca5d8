"""Hospitals' aggregates side by side: their mean, and whether they differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fedmri.errors import UsageError
from fedmri.explain.agreement import agreement_of
from fedmri.explain.judged import mean_difference, mean_share
from fedmri.reports.statistics.spread import careful_quantile
from tests.conftest import program

N = 12


def shown(found: Any) -> dict[str, Any]:
    """Return an estimate as ``summary.json`` has it."""
    return {"value": found.value, "low": found.low, "high": found.high, "n_subjects": N}


def written(folder: Path, name: str, gains: np.ndarray, **changed: Any) -> Path:
    """Write the summary of a hospital whose patients have some gains."""
    method = {
        "share_in_mask": shown(mean_share(list(0.3 + gains))),
        "gain_over_untrained": shown(mean_difference(list(gains))),
        "under_random_weights": "changes",
    }
    summary = {"model_sha256": "abc", "is_fit_to_leave": True, "methods": {"gradcam": method}}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(summary | changed))
    return path


def told(paths: list[Path]) -> str:
    """Return what the command prints."""
    return CliRunner().invoke(program(), ["agree", *map(str, paths)], catch_exceptions=False).output


def gains(mean: float, seed: int) -> np.ndarray:
    """Return gains of twelve patients."""
    return mean + 0.05 * np.random.default_rng(seed).standard_normal(N)


def test_the_mean_weighs_hospitals_by_what_their_intervals_say(tmp_path: Path) -> None:
    """Of hospitals alike it is the inverse-variance mean; errors are read off the intervals."""
    each = [gains(0.2, seed) for seed in range(3)]
    paths = [written(tmp_path, f"h{i}", values) for i, values in enumerate(each)]
    [one] = agreement_of(paths)
    assert list(one.gains) == ["h0", "h1", "h2"]
    weights = np.array([N / values.var(ddof=1) for values in each])
    wanted = float(weights @ [values.mean() for values in each] / weights.sum())
    assert one.together is not None
    assert one.together.tau2 == 0
    assert one.together.mean == pytest.approx(wanted, rel=1e-6)
    assert one.p_alike > 0.05
    half = careful_quantile(N - 1) * each[0].std(ddof=1) / np.sqrt(N)
    assert one.gains["h0"].high - one.gains["h0"].value == pytest.approx(half, rel=1e-6)


def test_hospitals_that_differ_are_told_by_the_command(tmp_path: Path) -> None:
    """In one of three the model looks elsewhere; two hospitals have no mean."""
    paths = [written(tmp_path, f"h{i}", gains(m, i)) for i, m in enumerate((0.2, 0.2, -0.1))]
    said = told(paths)
    assert "h2, 12 patients: in masks" in said
    assert "Hospitals differ (p 0.000)." in said
    two = told(paths[:2])
    assert "No mean: fewer than three hospitals have an interval." in two


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"is_fit_to_leave": False}, "fewer than five patients"),
        ({"model_sha256": "other"}, "2 models"),
        ({"methods": {"gradcam": {"share_in_mask": 3}}}, "TypeError"),
        ({"methods": 3}, "TypeError"),
    ],
)
def test_summaries_that_do_not_go_together_are_refused(
    tmp_path: Path, changed: dict[str, Any], found: str
) -> None:
    """What comes from elsewhere is not trusted, and what should have stayed is not read."""
    paths = [
        written(tmp_path, "a", gains(0.2, 0)),
        written(tmp_path, "b", gains(0.2, 1), **changed),
    ]
    with pytest.raises(UsageError, match=rf"{found}.*\[U87\]"):
        agreement_of(paths)

"""On pure noise every interval holds chance about as often as it says.

Patients are those of ``benchmarks/statistics/null_data.py``, which has 1,000 repetitions. Here they
are few, so the limits are wide: of 40 at 0.95, fewer than 0.8 are held about once in 5,000 times.
"""

from __future__ import annotations

import numpy as np

from tests.reports.test_coverage import load

null_data = load("null_data")
LESS_PROMISED = {"conformal interval, 0.90 promised"}


def test_noise_is_not_called_anything() -> None:
    """Every estimator on hospitals of 5, 12, 30 and 60 patients, and no row without an interval."""
    found = null_data.measured((5, 12, 30, 60), 40, np.random.default_rng(3))
    assert len(found) > 40
    for name, (held, missing) in found.items():
        least = 0.7 if name in LESS_PROMISED else 0.8
        assert held > least, name
        assert missing < 0.05, name

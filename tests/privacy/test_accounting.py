"""What steps of DP-SGD cost: against known values and against laws."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from fedmri.errors import ConfigError, PrivacyError
from fedmri.privacy.accounting import Steps, curve, merge, noise_for, spent

DELTA = 1e-5


def oracle(name: str) -> list[dict[str, str]]:
    """Return the rows of a table of known values."""
    if "FEDMRI_TEST_DATA" not in os.environ:
        pytest.skip("FEDMRI_TEST_DATA names no folder of shared data")
    path = Path(os.environ["FEDMRI_TEST_DATA"]).parent / "oracles" / "dp" / name
    with path.open() as file:
        return list(csv.DictReader(file))


def check(row: dict[str, str]) -> None:
    """Compare a row: equal to Opacus's own, and between the bounds of Google's accountant."""
    steps = Steps(float(row["sigma"]), float(row["q"]), int(row["steps"]))
    found = spent([steps], float(row["delta"]))
    rdp, prv, pld = (_number(row[k]) for k in ("opacus_rdp", "opacus_prv", "google_pld_upper"))
    if math.isfinite(rdp):
        assert math.isclose(found.rdp, rdp, rel_tol=1e-6)
    if math.isfinite(prv) and found.accountant == "prv":
        assert math.isclose(found.epsilon, prv, rel_tol=1e-6)
    if math.isfinite(pld) and 0.3 < pld < 30:
        assert found.rdp >= pld - 1e-3
        assert pld - 0.005 <= found.epsilon
        assert found.epsilon <= (pld + 0.02 if found.accountant == "prv" else found.rdp)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def test_epsilon_equals_the_oracle() -> None:
    """Every 29th row of the grid; the whole of it is a slow test."""
    for row in oracle("epsilon.csv")[::29]:
        check(row)


@pytest.mark.slow
def test_epsilon_equals_the_oracle_on_every_row() -> None:
    """560 combinations were computed with three libraries; half of them are here."""
    for row in oracle("epsilon.csv"):
        check(row)


def test_the_patient_is_the_unit() -> None:
    """Drawn once whatever the number of its scans, a patient's epsilon is the record's."""
    for row in oracle("patient_level.csv"):
        if row["k_records_per_patient"] == "1":
            steps = Steps(float(row["sigma"]), float(row["q"]), int(row["steps"]))
            found = spent([steps], float(row["delta"])).epsilon
            want = float(row["patient_eps_if_patient_is_the_unit"])
            assert want - 0.005 <= found <= want + 0.02 + 0.01 * want


@pytest.mark.parametrize(("n_rounds", "want"), [(1, 1.32), (10, 3.39), (50, 7.90)])
def test_rounds_compose(n_rounds: int, want: float) -> None:
    """An accountant that began anew each round would report 1.32 for ever."""
    history = [Steps(1.2, 0.05, 20)] * n_rounds
    assert abs(spent(history, DELTA).epsilon - want) < 0.02


def test_a_change_of_noise_composes() -> None:
    """Ten rounds of 1.2 and forty of 0.9 cost 12.64, in either order."""
    history = [Steps(1.2, 0.05, 200), Steps(0.9, 0.05, 800)]
    assert abs(spent(history, DELTA).epsilon - 12.64) < 0.03
    assert spent(history[::-1], DELTA) == spent(history, DELTA)


def test_nothing_costs_nothing() -> None:
    """No steps, no epsilon."""
    assert spent([], DELTA).epsilon == 0
    assert spent([Steps(1.0, 0.1, 0)], DELTA).epsilon == 0


def test_steps_of_a_kind_are_added_up() -> None:
    """However they were cut into rounds."""
    assert merge([Steps(1, 0.1, 3), Steps(2, 0.1, 1), Steps(1, 0.1, 4)]) == (
        Steps(1, 0.1, 7),
        Steps(2, 0.1, 1),
    )


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_noise_for_an_epsilon_costs_as_much_and_hardly_less(epsilon: float) -> None:
    """The search ends just below what was asked for."""
    noise = noise_for(epsilon, DELTA, 0.05, 100)
    assert spent([Steps(noise, 0.05, 100)], DELTA).epsilon <= epsilon
    assert spent([Steps(0.995 * noise, 0.05, 100)], DELTA).epsilon > epsilon


def test_an_epsilon_that_no_noise_gives_is_refused() -> None:
    """The search has an end."""
    with pytest.raises(PrivacyError, match=r"\[P30\]"):
        noise_for(1e-9, 1e-5, 1.0, 1)


def test_a_search_without_an_end_is_told_at_once() -> None:
    """A million rounds: what the largest noise costs is looked at before all others."""
    with pytest.raises(PrivacyError, match=r"\[P30\]"):
        noise_for(1e-4, 2.5e-3, 0.4, 3_000_000)


@pytest.mark.parametrize(
    ("noise", "n_steps", "delta"), [(100.0, 1, 0.05), (2.0, 1, 0.5), (1000.0, 5000, 1e-13)]
)
def test_epsilon_is_an_upper_bound_at_the_ends_of_delta(
    noise: float, n_steps: int, delta: float
) -> None:
    """Of few patients, where RDP alone is negative; and far below any number of them."""
    found = spent([Steps(noise, 1.0, n_steps)], delta)
    assert found.epsilon >= exact_gaussian(n_steps**0.5 / noise, delta)
    assert found.rdp >= 0


def exact_gaussian(mu: float, delta: float) -> float:
    """Return epsilon of the Gaussian mechanism (Balle and Wang 2018, arXiv:1805.06530)."""

    def excess(epsilon: float) -> float:
        low = float(norm.logcdf(-mu / 2 - epsilon / mu))
        return float(norm.cdf(mu / 2 - epsilon / mu)) - math.exp(epsilon + low) - delta

    return 0.0 if excess(0) <= 0 else float(brentq(excess, 0, 100))


def test_numbers_out_of_range_are_refused() -> None:
    """A rate above one, no noise, a delta of nothing."""
    for name, bad in (
        ("noise_multiplier", (0.0, 0.1, 1)),
        ("sample_rate", (1.0, 1.5, 1)),
        ("sample_rate", (1.0, 0.0, 1)),
        ("n_steps", (1.0, 0.1, -1)),
    ):
        with pytest.raises(ConfigError, match=rf"setting {name}: found .*\[C01\]"):
            Steps(*bad)
    with pytest.raises(ConfigError, match="delta"):
        spent([Steps(1, 0.1, 1)], 0.0)


def test_the_curve_rises_to_the_last_round() -> None:
    """About ten points, the last of them the whole run."""
    points = list(curve(1.2, 0.05, 20, DELTA, 50))
    assert points[-1][0] == 50
    assert abs(points[-1][1] - 7.90) < 0.02
    assert [e for _, e in points] == sorted(e for _, e in points)

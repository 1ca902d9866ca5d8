"""Schedules as functions of the global step."""

from __future__ import annotations

import math
from typing import Literal

import pytest

from fedmri.training.schedules import learning_rate, plateau_factor
from fedmri.training.settings import TrainConfig

SCHEDULES: tuple[Literal["constant", "cosine", "cyclic", "plateau"], ...] = (
    "constant",
    "cosine",
    "cyclic",
    "plateau",
)
EACH = pytest.mark.parametrize("schedule", SCHEDULES)


@EACH
def test_warm_up_rises_evenly_to_the_rate(schedule: str) -> None:
    """A fifth of 20 steps: a quarter of the rate after the first, all of it after the fourth."""
    config = TrainConfig(lr=0.4, schedule=schedule, warmup=0.2)  # type: ignore[arg-type]  # any str
    rates = [learning_rate(config, step, 20)[0] for step in range(4)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_cosine_falls_from_the_rate_to_nothing() -> None:
    """Half way through it is half the rate, at a third three quarters."""
    config = TrainConfig(lr=0.2, schedule="cosine")
    rates = [learning_rate(config, step, 12)[0] for step in (0, 4, 6, 12, 13)]
    assert rates == pytest.approx([0.2, 0.15, 0.1, 0, 0])


def test_cosine_begins_where_warm_up_ends() -> None:
    """The highest rate comes once, between the two."""
    config = TrainConfig(lr=1.0, schedule="cosine", warmup=0.25)
    rates = [learning_rate(config, step, 16)[0] for step in range(16)]
    assert rates[3] == rates[4] == 1
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)


def test_cyclic_moves_momentum_against_the_rate() -> None:
    """Rate between a tenth and all of it, momentum between 0.9 and 0.8, in opposite phase."""
    config = TrainConfig(lr=0.1, momentum=0.9, schedule="cyclic", cycle_steps=8)
    pairs = [learning_rate(config, step, 100) for step in (0, 2, 4, 6, 8)]
    assert [rate for rate, _ in pairs] == pytest.approx([0.01, 0.055, 0.1, 0.055, 0.01])
    assert [momentum for _, momentum in pairs] == pytest.approx([0.9, 0.85, 0.8, 0.85, 0.9])


@EACH
def test_only_cyclic_touches_momentum(schedule: str) -> None:
    """Momentum is a setting everywhere else."""
    config = TrainConfig(schedule=schedule, warmup=0.1)  # type: ignore[arg-type]  # any str
    momenta = {learning_rate(config, step, 50)[1] for step in range(50)}
    assert (momenta == {0.9}) == (schedule != "cyclic")


def test_a_plateau_halves_the_rate_after_patience_and_again() -> None:
    """Lowest at round 2; rounds 3 and 4 wait, so do 5 and 6; round 7 is a new lowest."""
    losses = [1.0, 0.9, 0.9, 0.95, 1.0, 0.9, 0.8, 0.85]
    factors = [plateau_factor(losses[:n], 2) for n in range(len(losses) + 1)]
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_loss_that_is_not_finite_is_no_progress() -> None:
    """Rounds that failed wait like rounds that stood still."""
    assert plateau_factor([1.0, math.nan, math.inf, 0.9], 2) == 0.5

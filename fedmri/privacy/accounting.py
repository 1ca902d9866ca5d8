"""How much privacy steps of DP-SGD have cost a patient, as epsilon at a delta.

The unit is the patient: each is drawn by itself with ``sample_rate``, whatever the number of its
scans. Opacus's accountants do the work. PRV (Gopi, Lee and Wutschitz 2021, arXiv:2106.02848) is
reported; RDP (Mironov 2017, arXiv:1702.07476) checks it from above. Opacus's third, ``gdp``, is an
approximation by a central limit theorem that reports less than was spent, and is not used. Where
every patient is in every step, the cost is known exactly; see ``fedmri.privacy.gaussian``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from fedmri.errors import PrivacyError, require
from fedmri.privacy.gaussian import gaussian_epsilon

PRV_SLACK = 0.02
"""What PRV's own numerical error may put it above RDP's bound by."""
LEAST_DELTA = 1e-10
"""Delta below which PRV is not asked: the rounding of its sums weighs as much."""
HOPELESS = 60.0
"""Epsilon of RDP beyond which PRV's grid is not built: it would be huge, and say nothing useful."""
NEAREST = 1e-3
"""How much more than the least noise is searched for, as a share of it."""
LARGEST = 1e4
"""Noise multiplier beyond which nothing is learned and nothing is searched."""
N_REMEMBERED = 2**16
"""Costs of one step that are remembered: those of some 400 kinds of steps."""


@dataclass(frozen=True)
class Steps:
    """Steps of one kind.

    Attributes:
        noise_multiplier: Noise over clip norm, above 0.
        sample_rate: Probability of a patient to be in a step, above 0 and up to 1.
        n_steps: Steps, empty ones too.
    """

    noise_multiplier: float
    sample_rate: float
    n_steps: int

    def __post_init__(self) -> None:
        noise, rate = self.noise_multiplier, self.sample_rate
        require(0 < noise < math.inf, "noise_multiplier", noise, "a positive number")
        require(0 < rate <= 1, "sample_rate", rate, "above 0, up to 1")
        require(self.n_steps >= 0, "n_steps", self.n_steps, "0 or more")


@dataclass(frozen=True)
class Spent:
    """What a history has cost.

    Attributes:
        epsilon: What is reported: the exact cost where nobody is sampled, else PRV's upper bound
            where it can be computed, else RDP's.
        rdp: RDP's upper bound, looser.
        accountant: Which of them ``epsilon`` is: ``exact``, ``prv`` or ``rdp``.
    """

    epsilon: float
    rdp: float
    accountant: str


def spent(history: Sequence[Steps], delta: float) -> Spent:
    """Return what steps together have cost each patient; the order does not matter.

    Args:
        history: Steps of any kinds: noise or rate may have changed on the way.
        delta: Above 0, below 1.

    Raises:
        ConfigError: Delta is out of range (C01).
    """
    require(0 < delta < 1, "delta", delta, "above 0, below 1")
    return _cost_of(merge(history), delta)


@lru_cache(maxsize=1024)  # a ledger asks again for what was spent before each of its rounds
def _cost_of(merged: tuple[Steps, ...], delta: float) -> Spent:
    if not merged:
        return Spent(0.0, 0.0, "prv")
    # next to a large delta the bound of RDP is negative, which guarantees no more than 0 does
    rdp = max(0.0, _quietly(lambda: _rdp(merged, delta)))
    if all(steps.sample_rate == 1 for steps in merged):
        mu = math.sqrt(sum(s.n_steps / s.noise_multiplier**2 for s in merged))
        return Spent(min(rdp, gaussian_epsilon(mu, delta)), rdp, "exact")
    is_computable = rdp < HOPELESS and delta >= LEAST_DELTA
    prv = _quietly(lambda: _prv(merged, delta)) if is_computable else math.nan
    if not math.isfinite(prv) or prv < 0 or prv > rdp + PRV_SLACK:
        return Spent(rdp, rdp, "rdp")
    return Spent(prv, rdp, "prv")


def merge(history: Sequence[Steps]) -> tuple[Steps, ...]:
    """Return the history with steps of the same kind added up, in ascending order."""
    totals: dict[tuple[float, float], int] = {}
    for steps in history:
        kind = (steps.noise_multiplier, steps.sample_rate)
        totals[kind] = totals.get(kind, 0) + steps.n_steps
    return tuple(Steps(*kind, n) for kind, n in sorted(totals.items()) if n)


def noise_for(epsilon: float, delta: float, sample_rate: float, n_steps: int) -> float:
    """Return the least noise multiplier whose cost is ``epsilon`` at most, to one in a thousand.

    Raises:
        PrivacyError: No noise is enough (P30).
        ConfigError: A number is out of range (C01).
    """
    require(0 < epsilon < math.inf, "epsilon", epsilon, "a positive number")

    def cost(noise: float) -> float:
        return spent([Steps(noise, sample_rate, n_steps)], delta).epsilon

    if cost(LARGEST) > epsilon:  # first: with many steps each look on the way takes long
        fix = "take fewer steps or rounds, a smaller batch, or a larger epsilon"
        what, found = f"noise for epsilon {epsilon:g}", f"none up to {LARGEST:g}"
        raise PrivacyError("P30", what, found=found, want="a noise multiplier", fix=fix)
    low, high = (0.0, math.inf), (1.0, cost(1.0))
    while high[1] > epsilon:
        noise = min(2 * high[0], LARGEST)
        low, high = high, (noise, cost(noise))
    ways = 0
    while high[0] - low[0] > NEAREST * high[0]:
        noise = _between(low, high, epsilon, ways)
        ways += 1
        looked = noise, cost(noise)
        low, high = (low, looked) if looked[1] <= epsilon else (looked, high)
    return high[0]


def _between(
    low: tuple[float, float], high: tuple[float, float], epsilon: float, ways: int
) -> float:
    """Return the noise to look at next, between two whose costs are above and below epsilon.

    Cost is nearly a power of noise, so a few looks a little beside where that power says bring
    both ends near. Every third look halves, whatever the costs are.
    """
    middle = (low[0] + high[0]) / 2
    if ways % 3 == 2 or not 0 < epsilon < low[1] < math.inf or not 0 < high[1] < epsilon:
        return middle
    share = math.log(epsilon / high[1]) / math.log(low[1] / high[1])
    beside = 1 + NEAREST / 3 * (1 if ways % 3 == 0 else -1)
    noise = high[0] * (low[0] / high[0]) ** share * beside
    return noise if low[0] < noise < high[0] else middle


def curve(
    noise_multiplier: float, sample_rate: float, steps_a_round: int, delta: float, n_rounds: int
) -> Iterator[tuple[int, float]]:
    """Yield rounds and what all steps up to their end have cost, about ten of them."""
    every = max(1, n_rounds // 10)
    for round_index in sorted({*range(every, n_rounds + 1, every), n_rounds}):
        history = [Steps(noise_multiplier, sample_rate, round_index * steps_a_round)]
        yield round_index, spent(history, delta).epsilon


def _prv(history: Sequence[Steps], delta: float) -> float:
    accountant = _opacus().PRVAccountant()
    accountant.history = [(s.noise_multiplier, s.sample_rate, s.n_steps) for s in history]
    try:
        return float(accountant.get_epsilon(delta))
    except (ArithmeticError, MemoryError, RuntimeError, ValueError):
        return math.nan  # a grid that cannot be built for these numbers: RDP stands in


def _rdp(history: Sequence[Steps], delta: float) -> float:
    accountant = _opacus().RDPAccountant()
    accountant.history = [(s.noise_multiplier, s.sample_rate, s.n_steps) for s in history]
    return float(accountant.get_epsilon(delta))


@cache
def _opacus() -> Any:
    """Return Opacus's accountants, which remember what one step costs at each order of RDP.

    That does not depend on the number of steps. PRV asks for it three times to size its grid.
    """
    from opacus import accountants  # takes seconds to import
    from opacus.accountants.analysis import rdp

    rdp._compute_rdp = lru_cache(maxsize=N_REMEMBERED)(rdp._compute_rdp)
    return accountants


def _quietly(work: Callable[[], float]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # orders at the end of RDP's list, and overflow on PRV's grid
        return work()

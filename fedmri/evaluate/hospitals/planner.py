"""What would tell a new hospital's score better: more hospitals, more patients, or neither."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import optimize, special

from fedmri.evaluate.hospitals.new_hospital import NewHospital
from fedmri.evaluate.hospitals.random_effects import on_scale


@dataclass(frozen=True)
class Plan:
    """What would halve an interval; None where nothing of that kind would.

    Attributes:
        half_width: Of the prediction interval now, on its scale.
        floor: Half width that no number of hospitals and patients goes below: hospitals differ.
        further_hospitals: That halve the prediction interval.
        patients_factor: How many times as many patients at each hospital halve it.
        further_for_mean: Hospitals that halve the interval of the mean.
    """

    half_width: float
    floor: float
    further_hospitals: int | None
    patients_factor: float | None
    further_for_mean: int

    def sentences(self) -> tuple[str, ...]:
        """Return the plan in words."""
        parts = []
        if self.further_hospitals is not None:
            parts.append(
                f"About {self.further_hospitals} further hospitals would halve the interval of a "
                "new hospital."
            )
        if self.patients_factor is not None:
            parts.append(
                f"About {self.patients_factor:.1f} times as many patients at each hospital would "
                "halve it too."
            )
        if not parts:
            share = 100 * self.floor / self.half_width
            parts.append(
                "Neither more hospitals nor more patients would halve the interval of a new "
                f"hospital: {share:.0f} % of its width is the difference between hospitals."
            )
        parts.append(
            f"About {self.further_for_mean} further hospitals would halve the interval of the mean."
        )
        return tuple(parts)


def plan_halving(
    found: NewHospital, errors: Sequence[float], values: Sequence[float], *, most: int = 100_000
) -> Plan:
    """Return what would halve the prediction interval, and the interval of the mean.

    The spread between hospitals is taken as it was found. With k hospitals the half width is
    ``t * sqrt(tau**2 + (tau**2 + s**2) / k)``, where s is a hospital's own error and t has k - 1
    degrees of freedom. It never goes below 1.96 tau.

    Args:
        found: Of ``new_hospital``.
        errors: The same as there.
        values: The same as there.
        most: Numbers above it are not looked at.

    Source:
        Higgins et al. 2009, doi:10.1111/j.1467-985X.2008.00552.x; van Leeuwen et al. 2025,
        doi:10.1002/sim.70011 (the floor).
    """
    own = on_scale(values, errors, found.scale)
    s2 = float(own.variance.mean()) if own is not None else math.nan
    tau2, k = found.spread**2, found.n_sites

    def half(n: int, share: float = 1.0) -> float:
        q = float(special.stdtrit(n - 1, (1 + found.level) / 2))
        return q * math.sqrt(tau2 + (tau2 + share * s2) / n)

    def half_of_mean(n: int) -> float:
        q = float(special.stdtrit(n - 1, (1 + found.level) / 2))
        return q * math.sqrt((tau2 + s2) / n)

    now = half(k)
    further = _first(lambda n: half(n) <= now / 2, k, most)
    for_mean = _first(lambda n: half_of_mean(n) <= half_of_mean(k) / 2, k, most)
    return Plan(
        half_width=now,
        floor=float(special.ndtri((1 + found.level) / 2)) * found.spread,
        further_hospitals=further,
        patients_factor=_factor(lambda share: half(k, share) - now / 2),
        further_for_mean=for_mean if for_mean is not None else most,
    )


def _first(is_enough: Callable[[int], bool], k: int, most: int) -> int | None:
    """Return how many more than ``k`` are enough, by doubling and then halving the step."""
    low, high = k, 2 * k
    while not is_enough(high):
        low, high = high, 2 * high
        if high > most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high - k


def _factor(excess: Callable[[float], float]) -> float | None:
    """Return the factor of patients whose inverse share brings the excess to 0."""
    if excess(0.0) > 0:
        return None
    return float(1 / optimize.brentq(excess, 1e-12, 1.0))

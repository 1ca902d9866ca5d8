"""Temperature, limits and coverage over patients of many sites, from sums alone.

A site sums over its validation patients, and then over its test patients under what came of the
first sums. The temperature is the one of all patients in one place; the limit of sets and intervals
comes from counts by range, so it is never below that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from fedmri.errors import HarmonizeError
from fedmri.evaluate.arrays import Array, Flags, Indices
from fedmri.evaluate.estimate import Certainty, Estimate, interval
from fedmri.evaluate.reliability.calibration import LEAST
from fedmri.evaluate.reliability.conformal import conformal_quantile
from fedmri.evaluate.scores.federated_auc import Counts, counted, logit_edges, merged

Sums = dict[str, Array]
MOST = 16.0
"""Largest temperature that is looked for; the least is one over it."""
INVERSE = np.exp(np.linspace(-math.log(MOST), math.log(MOST), 33))
"""Inverse temperatures at which the loss is looked at."""
LEAST_PATIENTS = 10
"""Validation patients of a temperature."""
N_BINS = 256
FINEST = 1e-5
"""Smallest error that is told from none, as a share of the largest that counts."""
DIGITS = 4
"""Significant digits of a site's mean: a sum of few patients shall not carry their values."""
WAYS = ("plain", "common", "own")
"""Probabilities as they are, at the temperature of all sites, and at each site's own."""
SITES = "sites"


def loss_slopes(logits: Array, truth: Indices) -> Array:
    """Return how the loss changes with the inverse temperature, at each of ``INVERSE``.

    Sums over patients; those of several sites add up.

    Args:
        logits: Of validation patients, shape ``(n, k)``.
        truth: Their classes, shape ``(n,)``.

    Source:
        Guo et al. 2017, arXiv:1706.04599 (the loss).
    """
    right = logits[np.arange(len(truth)), truth]
    means = ((special.softmax(b * logits, axis=1) * logits).sum(axis=1) for b in INVERSE)
    return np.array([(mean - right).sum() for mean in means])


def temperature_of(slopes: Array, n: int) -> float:
    """Return the temperature of least loss, within 0.01 %; NaN where there is none.

    The loss is convex, so its slope is 0 once. Between the places that were looked at it is a
    cubic spline over the logarithm.

    Args:
        slopes: Sums of ``loss_slopes``.
        n: Patients behind them.
    """
    from scipy.interpolate import CubicSpline
    from scipy.optimize import brentq  # slow to import

    none = 1e-9 * n  # by rounding alone, as where all are called right
    below, above = np.flatnonzero(slopes < -none), np.flatnonzero(slopes > none)
    if n < LEAST_PATIENTS or not (len(below) and len(above)) or below[-1] > above[0]:
        return math.nan
    at = np.log(INVERSE)
    return math.exp(-brentq(CubicSpline(at, slopes), at[below[-1]], at[above[0]]))


def at_temperature(shares: Array, temperature: float) -> Array:
    """Return probabilities ``(n, k)`` at another temperature."""
    return np.asarray(special.softmax(logits_of(shares) / temperature, axis=1))


def logits_of(shares: Array) -> Array:
    """Return logits of probabilities ``(n, k)``; one of 0 is taken as just above it."""
    return np.asarray(np.log(np.maximum(shares, LEAST)))


@dataclass(frozen=True)
class Answered:
    """What a model says of patients, and what is true of them.

    Attributes:
        predictions: Probabilities of classes, shape ``(n, k)``; or values, shape ``(n, 1)``.
        truth: Class or value, shape ``(n,)``.
    """

    predictions: Array
    truth: Array

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(self.truth)

    @property
    def classes(self) -> Indices:
        """The truth as classes."""
        return self.truth.astype(np.intp)

    @property
    def unlikeness(self) -> Array:
        """1 minus the probability of the true class, or the size of the error; shape ``(n,)``."""
        if self.predictions.shape[1] == 1:
            return np.asarray(np.abs(self.predictions[:, 0] - self.truth))
        return np.asarray(1 - self.predictions[np.arange(len(self)), self.classes])

    def temperature(self) -> float:
        """Return the temperature of these patients; NaN where there is none."""
        slopes = loss_slopes(logits_of(self.predictions), self.classes)
        return temperature_of(slopes, len(self))


@dataclass(frozen=True)
class SiteAnswers:
    """What a site sums over.

    Attributes:
        validated: Validation patients.
        tested: Test patients.
        row: The site's own row among all sites; -1 where it has none.
    """

    validated: Answered
    tested: Answered
    row: int


@dataclass(frozen=True)
class ReliabilitySums:
    """Sums over sites in two steps: of validation patients, then of test patients.

    Attributes:
        n_classes: Classes; 0 where a value is predicted.
        most_error: Largest error that counts, in the target's unit; of values alone.
        n_least: Patients behind whatever a site sends.
        promised: Share of patients that sets and intervals shall hold.
    """

    n_classes: int
    most_error: float
    n_least: int
    promised: float = 0.9
    n_steps: int = 2

    @property
    def edges(self) -> Array:
        """Inner borders of the bins of unlikeness, shape ``(N_BINS - 1,)``."""
        if self.n_classes:
            return logit_edges(N_BINS)
        return np.asarray(self.most_error * np.geomspace(FINEST, 1, N_BINS)[:-1])

    @property
    def names(self) -> tuple[str, ...]:
        """What is told of each site's test patients."""
        common = ("n", "n_validated", "held", "held_own", "size", "size_own", "has_own_limit")
        if not self.n_classes:
            return common
        each = (f"{what}_{way}" for what in ("confidence", "brier") for way in WAYS)
        gains = (f"{what}_{way}" for what in ("gain", "gain_squared") for way in WAYS[1:])
        return (*common, "right", "has_own_temperature", *each, *gains)

    def site_sums(self, step: int, data: object, shared: Sums) -> Sums:
        """Return a site's sums; zeros where ``data`` is no ``SiteAnswers`` or has too few."""
        own = data if isinstance(data, SiteAnswers) else None
        if step == 0:
            return self._of_validation(None if own is None else own.validated)
        return self._of_test(own, shared)

    def combine(self, step: int, total: Sums, shared: Sums) -> Sums:
        """Return the temperature and the limit of all sites; at last the sums of each site.

        A temperature of 0, or a limit below 0, is none.

        Raises:
            HarmonizeError: The total holds what no patients give (H01).
        """
        self.refuse_odd(step, total)
        if step == 1:
            return {**total, **{name: shared[name] for name in ("temperature", "limit")}}
        n = int(total["high"].sum())
        found = temperature_of(total["slope"], n) if self.n_classes else math.nan
        limit = self._limit(total["high"])
        known = {"temperature": found if math.isfinite(found) else 0.0, "limit": limit}
        return {**shared, **{name: np.array([value]) for name, value in known.items()}}

    def refuse_odd(self, step: int, sums: Sums) -> None:
        """Refuse what no patients give: half ones, more held than there are, a loss with two ends.

        Raises:
            HarmonizeError: Some are odd (H01).
        """
        is_fine = self._can_be_validated(sums) if step == 0 else self._can_be_tested(sums)
        if not is_fine:
            fix = "have all sites run the same version of fedmri; a site may have sent wrong sums"
            want = "counts and sums that patients can give"
            raise HarmonizeError("H01", "sums of reliability", found="others", want=want, fix=fix)

    def _of_validation(self, own: Answered | None) -> Sums:
        sums = {"high": np.zeros(N_BINS)}
        if self.n_classes:
            sums["slope"] = np.zeros(len(INVERSE))
        if own is None or len(own) < self.n_least:
            return sums
        alike = np.ones(len(own), dtype=np.bool_)
        places = counted(own.unlikeness, alike, self.edges).positive
        sums["high"] = merged(Counts(places, np.zeros(N_BINS)), self.n_least).positive_high
        if self.n_classes:
            slopes = loss_slopes(logits_of(own.predictions), own.classes)
            sums["slope"] = np.array([_of_few_digits(one, len(own)) for one in slopes])
        return sums

    def _limit(self, high: Array) -> float:
        n = int(high.sum())
        rank = math.ceil((n + 1) * self.promised - 1e-9)
        if not n or rank > n:
            return -1.0
        ends = [*self.edges, 1.0 if self.n_classes else self.most_error]
        return float(ends[int(np.searchsorted(np.cumsum(high), rank))])

    def _of_test(self, own: SiteAnswers | None, shared: Sums) -> Sums:
        sums = {name: np.zeros(len(shared[SITES])) for name in self.names}
        if own is None or own.row < 0 or len(own.tested) < self.n_least:
            return sums
        n_validated = len(own.validated)
        validated = own.validated if n_validated >= self.n_least else None
        temperature, limit = float(shared["temperature"][0]), float(shared["limit"][0])
        found = {
            "n": float(len(own.tested)),
            "n_validated": float(n_validated if validated is not None else 0),
            **self._held(own.tested, validated, limit),
            **(self._tempered(own.tested, validated, temperature) if self.n_classes else {}),
        }
        for name, value in found.items():
            sums[name][own.row] = value
        return sums

    def _held(self, tested: Answered, validated: Answered | None, limit: float) -> dict[str, float]:
        """Return how many are held under the limit of all and under an own one, and the sizes."""
        if limit < 0:
            return {}
        own = math.inf
        if validated is not None:
            own = conformal_quantile(validated.unlikeness, self.promised)
        has_own = math.isfinite(own)
        (held, size), (held_own, size_own) = (
            self._under(tested, one) for one in (limit, own if has_own else limit)
        )
        return {
            "held": float(held.sum()),
            "held_own": float(held_own.sum()),
            "size": _of_few_digits(size, len(tested)),
            "size_own": _of_few_digits(size_own, len(tested)),
            "has_own_limit": float(has_own),
        }

    def _under(self, tested: Answered, limit: float) -> tuple[Flags, float]:
        """Return who is held under a limit, and the sum of sizes of sets or intervals."""
        is_held = np.asarray(tested.unlikeness <= limit + 1e-12)
        if not self.n_classes:
            return is_held, 2 * limit * len(tested)
        return is_held, float((1 - tested.predictions <= limit + 1e-12).sum())

    def _tempered(
        self, tested: Answered, validated: Answered | None, common: float
    ) -> dict[str, float]:
        """Return sums of confidence and of squares, as it is and at both temperatures."""
        common = common or 1.0
        own = math.nan if validated is None else validated.temperature()
        has_own = math.isfinite(own)
        used = dict(zip(WAYS, (1.0, common, own if has_own else common), strict=True))
        n, wanted = len(tested), np.eye(self.n_classes)[tested.classes]
        found = {"has_own_temperature": float(has_own)}
        found["right"] = float((tested.predictions.argmax(axis=1) == tested.classes).sum())
        squares: dict[str, Array] = {}
        for way, temperature in used.items():
            is_plain = temperature == 1
            shares = tested.predictions
            shares = shares if is_plain else at_temperature(shares, temperature)
            squares[way] = ((shares - wanted) ** 2).sum(axis=1)
            found[f"confidence_{way}"] = _of_few_digits(float(shares.max(axis=1).sum()), n)
            found[f"brier_{way}"] = _of_few_digits(float(squares[way].sum()), n)
        for way in WAYS[1:]:
            gains = squares[way] - squares["plain"]
            found[f"gain_{way}"] = _of_few_digits(float(gains.sum()), n)
            found[f"gain_squared_{way}"] = _of_few_digits(float((gains**2).sum()), n)
        return found

    def _can_be_validated(self, sums: Sums) -> bool:
        high, slope = sums["high"], sums.get("slope", np.zeros(1))
        room = 1e-2 * max(1.0, float(np.abs(slope).max()))  # digits were cut
        return _are_counts(high) and bool((np.diff(slope) >= -room).all())

    def _can_be_tested(self, sums: Sums) -> bool:
        n = sums["n"]
        counts = [sums[name] for name in ("n", "n_validated", "held", "held_own")]
        parts = [sums["held"], sums["held_own"]]
        sizes = [sums["size"], sums["size_own"]]
        widest = 1.001 * (self.n_classes or 2 * self.most_error) * n
        if self.n_classes:
            counts, parts = [*counts, sums["right"]], [*parts, sums["right"]]
            parts += [sums[f"confidence_{way}"] / 1.001 for way in WAYS]
            parts += [sums[f"brier_{way}"] / 2.002 for way in WAYS]
        is_within = all((part >= 0).all() and (part <= n).all() for part in parts)
        is_sized = all((size >= 0).all() and (size <= widest).all() for size in sizes)
        return all(map(_are_counts, counts)) and is_within and is_sized


def _are_counts(values: Array) -> bool:
    return bool((values >= 0).all() and (values == np.rint(values)).all())


def _of_few_digits(total: float, n: int) -> float:
    """Return a sum whose mean has few digits."""
    return n * float(f"{total / n:.{DIGITS}g}")


def gain_over_sites(rows: Mapping[str, Array], way: str) -> Estimate:
    """Return the mean change of squares by a temperature, with Student's interval within sites.

    Args:
        rows: Sums of sites, see ``ReliabilitySums.names``; each of shape ``(n_sites,)``.
        way: ``common`` or ``own``.

    Source:
        Student 1908, doi:10.1093/biomet/6.1.1; Cochran 1977, Sampling Techniques, chapter 5.
    """
    is_there = rows["n"] > 0
    n, gain, squared = (rows[f][is_there] for f in ("n", f"gain_{way}", f"gain_squared_{way}"))
    if not is_there.any():
        return Estimate(math.nan, math.nan, math.nan, 0)
    n_all, df = float(n.sum()), float((n - 1).sum())
    squares = max(0.0, float((squared - gain**2 / n).sum()))
    error = math.sqrt(squares / df / n_all) if df > 0 else math.nan
    return interval(float(gain.sum()) / n_all, error, int(n_all), Certainty(df=df))

"""A lower bound on epsilon from an attack, to stand beside the accountant's upper bound.

Source:
    Jagielski, Ullman and Oprea 2020, Auditing differentially private machine learning,
    arXiv:2006.07709. Nasr, Songi, Thakurta, Papernot and Carlini 2021, Adversary instantiation,
    arXiv:2101.04535.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import require
from fedmri.evaluate.proportions import rate_bounds

Values = NDArray[np.float64]
Counts = NDArray[np.int64]

CONFIDENCE = 0.95
LEAST = 4
"""Values of either sort below which there is nothing to choose and to measure with."""


@dataclass(frozen=True)
class _Events:
    """How often each event happened, with and without: ``score >= t``, then ``score < t``."""

    with_it: Counts
    without: Counts
    n_with: int
    n_without: int


def epsilon_at_least(members: Values, others: Values, delta: float, seed: int) -> float:
    """Return an epsilon that the mechanism is not below, with 95 % confidence; 0 says nothing.

    A random half of the scores chooses the threshold, and the other half measures it: the bounds
    of Clopper and Pearson on how often members and others pass it, at 2.5 % each, are put into the
    definition of differential privacy. The bound is for the unit of the scores, such as a patient.

    It holds where scores are independent, as those of many trainings are. Scores of the patients of
    one training hang together through the model, and it is then an estimate: a bound above the
    accountant's still says that something is wrong (Steinke, Nasr and Jagielski 2023,
    arXiv:2305.08846).

    Args:
        members: Scores with the item, higher where an attacker would say it is in, shape ``(n,)``.
        others: Scores without it, shape ``(m,)``.
        delta: Of the guarantee that is audited.
        seed: Of the halves.
    """
    require(0 <= delta < 1, "delta", delta, "0 to below 1")
    if min(len(members), len(others)) < LEAST:
        return 0.0
    source = np.random.default_rng(seed)
    first, second = zip(*(_halves(v, source) for v in (members, others)), strict=True)
    thresholds = np.unique(np.concatenate(first))
    best = int(_bounds(_counted(first[0], first[1], thresholds), delta).argmax())
    bounds = _bounds(_counted(second[0], second[1], thresholds), delta)
    return max(0.0, float(bounds[best]))


def _halves(values: Values, source: np.random.Generator) -> tuple[Values, Values]:
    mixed = source.permutation(values)
    return mixed[::2], mixed[1::2]


def _counted(members: Values, others: Values, thresholds: Values) -> _Events:
    """Return the counts of both events at each threshold; the second swaps members and others."""
    n, m = len(members), len(others)
    passed = n - np.searchsorted(np.sort(members), thresholds)
    passed_others = m - np.searchsorted(np.sort(others), thresholds)
    # "below" is an event that others have more often: there epsilon is for leaving the item out
    size = n, m
    with_it = np.stack([passed, m - passed_others])
    without = np.stack([passed_others, n - passed])
    return _Events(with_it.astype(np.int64), without.astype(np.int64), *size)


def _bounds(events: _Events, delta: float) -> Values:
    tail = (1 - CONFIDENCE) / 2
    sizes = np.array([[events.n_with], [events.n_without]])
    low = rate_bounds(events.with_it.astype(float), sizes, tail)[0]
    high = rate_bounds(events.without.astype(float), sizes[::-1], tail)[1]
    with np.errstate(divide="ignore"):
        bounds: Values = np.log(np.maximum(low - delta, 0) / high)
    return bounds.ravel()

"""How well an order of risks agrees with an order of times, where some times are cut off."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fedmri.reports.statistics.influence import Part
from fedmri.reports.statistics.weighted import Panel, ratio
from fedmri.tasks.task import Array

EXPECTED = "expected"
"""Score of a patient by which patients are ordered: the longer, the lower the risk."""


def concordance(times: Array, is_event: NDArray[np.bool_], expected: Array) -> float:
    """Return Harrell's C: the share of pairs whose order is right; ties of the answer are a half.

    A pair counts where it is known who had the event first: the earlier time is of an event, and
    the later one is later, or the same and cut off. NaN where no pair counts.

    Args:
        times: To the event or to where it was cut off, shape ``(n,)``.
        is_event: Whether the event was seen.
        expected: Predicted time, or minus the risk.

    Source:
        Harrell, Califf, Pryor, Lee and Rosati 1982, doi:10.1001/jama.1982.03320430047030.
    """
    right, counted = _pairs(times, is_event, expected)
    total = float(counted.sum())
    return float(right.sum()) / total if total else math.nan


def _pairs(times: Array, is_event: NDArray[np.bool_], expected: Array) -> tuple[Array, Array]:
    """Return how right each ordered pair is, and whether it counts, each ``(n, n)``."""
    later = times[:, None] < times
    same = (times[:, None] == times) & ~is_event
    counted = is_event[:, None] & (later | same)
    np.fill_diagonal(counted, val=False)
    order = (expected[:, None] < expected) + 0.5 * (expected[:, None] == expected)
    return order * counted, counted.astype(np.float64)


def _of_panel(panel: Panel) -> tuple[Array, Array]:
    times, events = panel.truth[:, 0], panel.truth[:, 1] == 1
    return _pairs(times, events, panel.scores[EXPECTED])


def influence(panel: Panel) -> tuple[Part, ...]:
    """Return Harrell's C with what each patient moves it by, over all pairs that hold the patient.

    Source:
        Efron 1981, doi:10.1093/biomet/68.3.589 (infinitesimal jackknife).
    """
    right, counted = _of_panel(panel)
    total, n = float(counted.sum()), len(counted)
    if not total:
        return (Part(math.nan, np.zeros(n), (0.0,)),)
    value = float(right.sum()) / total
    excess = right - value * counted
    own = excess.sum(axis=0) + excess.sum(axis=1)
    return (Part(value, own * (n / total), (float(n),)),)


def weighted(panel: Panel, weights: Array) -> Array:
    """Return Harrell's C under weights of patients, shape ``(B,)``."""
    right, counted = _of_panel(panel)
    above = np.einsum("bi,bi->b", weights @ right, weights)
    return ratio(above, np.einsum("bi,bi->b", weights @ counted, weights))

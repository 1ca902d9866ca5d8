"""Scores by sex, age, scanner or field strength, each against all other patients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedmri.evaluate.arrays import Flags, Labels, codes_of, require_same_length, unfit
from fedmri.evaluate.comparisons.paired import holm
from fedmri.evaluate.estimate import LEVEL, Estimate, difference_of, quantile_of

Scored = Callable[[Flags], Estimate]
"""The score of the patients that are marked, with its interval."""


@dataclass(frozen=True)
class Subgroup:
    """One group of patients.

    Attributes:
        attribute: Such as ``sex``.
        group: Such as ``F``.
        score: Of the group.
        against_rest: Group minus all other patients; NaN where there are none.
        p_adjusted: Of no difference, adjusted for all groups that were looked at (Holm).
    """

    attribute: str
    group: str
    score: Estimate
    against_rest: Estimate
    p_adjusted: float


def subgroups(
    scored: Scored, attributes: Mapping[str, Labels], *, level: float = LEVEL
) -> tuple[Subgroup, ...]:
    """Return the score of every group of every attribute.

    Args:
        scored: The score of some patients, such as ``lambda own: auc(score[own], truth[own])``.
        attributes: Group of each patient by attribute, shapes ``(n,)``. Ages go through
            ``age_bands`` first.
        level: Coverage of the intervals of ``scored``.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Zou and Donner 2008, doi:10.1002/sim.3095 (differences); Holm 1979, Scandinavian Journal
        of Statistics 6, 65-70.
    """
    require_same_length(**attributes)
    found: list[Subgroup] = []
    for attribute, labels in attributes.items():
        names, code = codes_of(labels)
        for place, name in enumerate(names):
            found.append(_one(scored, attribute, str(name), code == place))
    adjusted = holm([_p_value(one.against_rest, level) for one in found])
    return tuple(replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True))


def _one(scored: Scored, attribute: str, name: str, own: Flags) -> Subgroup:
    score, nan = scored(own), math.nan
    if own.all():
        return Subgroup(attribute, name, score, Estimate(nan, nan, nan, len(own)), nan)
    return Subgroup(attribute, name, score, difference_of(score, scored(~own)), nan)


def _p_value(difference: Estimate, level: float) -> float:
    """Return the p-value that the nearer limit stands for."""
    side = difference.value - (difference.low if difference.value > 0 else difference.high)
    error = abs(side) / quantile_of(math.inf, level)
    if not difference.has_interval or error <= 0:
        return math.nan
    return float(2 * special.ndtr(-abs(difference.value) / error))


def age_bands(age: NDArray[np.float64], edges: Sequence[float]) -> NDArray[Any]:
    """Return the band of each patient's age: ``<40``, ``40-60``, ``>=60``; an edge lies above.

    Args:
        age: In years, shape ``(n,)``.
        edges: Ascending, such as ``(40, 60)``.

    Raises:
        UsageError: An age is not finite, or edges do not ascend (U80).
    """
    if not np.isfinite(age).all() or list(edges) != sorted(set(edges)) or not edges:
        raise unfit("ages or edges", "gaps or no order", "finite ages and ascending edges")
    inner = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(edges)]
    names = np.array([f"<{edges[0]:g}", *inner, f">={edges[-1]:g}"])
    return np.asarray(names[np.searchsorted(np.asarray(edges), age, side="right")])

"""What is lost at hospitals that took no part: pass, fail or inconclusive at ten points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fedmri.evaluate.arrays import Array, require_same_length
from fedmri.evaluate.estimate import LEVEL, Certainty, Estimate, difference_of, mean_interval
from fedmri.evaluate.proportions import mid_p

GapVerdict = Literal["pass", "fail", "inconclusive"]
LIMIT = 0.10
"""Ten percentage points: the largest loss at other hospitals that passes."""
LEAST_PATIENTS = 10
"""With fewer external patients, one that failed unseen changes the picture."""


@dataclass(frozen=True)
class Gap:
    """The score inside minus the score outside, so signed that a loss is above 0.

    Attributes:
        points: In percentage points, with its interval.
        relative: Loss as a share of the inside score, in percent: another number, so both are said.
        verdict: Whether the loss stays below the limit, is above it, or is not known well enough.
    """

    points: Estimate
    relative: float
    verdict: GapVerdict

    def sentence(self) -> str:
        """Return the verdict in a sentence or two."""
        one = self.points
        limit = f"{100 * LIMIT:.0f} percentage points"
        if not one.has_interval:
            return f"Inconclusive: the loss is {one.value:.1f} points and has no interval."
        lost = f"The loss is {one.value:.1f} points ({one.low:.1f} to {one.high:.1f})"
        said = {
            "pass": f"Pass: less than {limit} are lost",
            "fail": f"Fail: more than {limit} are lost",
            "inconclusive": f"Inconclusive: the loss may be below or above {limit}",
        }[self.verdict]
        return f"{said}. {lost}, {self.relative:.1f} % of the score inside."


def verdict_of(low: float, high: float, n_external: int, *, limit: float = LIMIT) -> GapVerdict:
    """Return whether a loss passes, by its interval alone.

    Args:
        low: Lower end of the loss, as a share (0.1 is ten points).
        high: Upper end.
        n_external: Patients outside.
        limit: Largest loss that passes, as a share.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or n_external < LEAST_PATIENTS:
        return "inconclusive"
    return "pass" if high < limit else "fail" if low > limit else "inconclusive"


def gap(inside: Estimate, outside: Estimate, *, limit: float = LIMIT) -> Gap:
    """Judge two scores between 0 and 1 that other patients gave.

    Args:
        inside: At hospitals that took part.
        outside: At hospitals that did not.
        limit: Largest loss that passes, as a share.

    Source:
        Zou and Donner 2008, doi:10.1002/sim.3095 (interval of the difference).
    """
    lost = difference_of(inside, outside)
    verdict = verdict_of(lost.low, lost.high, outside.n_subjects, limit=limit)
    points = Estimate(100 * lost.value, 100 * lost.low, 100 * lost.high, lost.n_subjects)
    relative = 100 * lost.value / inside.value if inside.value else math.nan
    return Gap(points, relative, verdict)


def gap_of_shares(
    inside: tuple[float, int], outside: tuple[float, int], *, limit: float = LIMIT
) -> Gap:
    """Judge two shares of patients, such as accuracies, from their values and patients alone.

    Args:
        inside: Share and patients at hospitals that took part.
        outside: Share and patients at hospitals that did not.
        limit: Largest loss that passes, as a share.

    Source:
        Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
    """
    ends = [Estimate(share, *mid_p(share, n), n) for share, n in (inside, outside)]
    return gap(ends[0], ends[1], limit=limit)


def gap_of_scores(
    inside: Array, outside: Array, *, limit: float = LIMIT, level: float = LEVEL
) -> Gap:
    """Judge scores that each patient has, such as Dice, of independent patients.

    Args:
        inside: Between 0 and 1, of patients of hospitals that took part, shape ``(n,)``.
        outside: Of patients of hospitals that did not, shape ``(m,)``.
        limit: Largest loss that passes, as a share.
        level: Coverage aimed at.

    Raises:
        UsageError: There is no patient (U80).

    Source:
        Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    for one in (inside, outside):
        require_same_length(scores=one)
    ends = [mean_interval(one, Certainty("logit", level=level)) for one in (inside, outside)]
    return gap(ends[0], ends[1], limit=limit)

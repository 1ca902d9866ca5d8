"""Agreement of repeated measurements: the six intraclass correlations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedmri.evaluate.arrays import Array, unfit


@dataclass(frozen=True)
class Agreement:
    """Intraclass correlations of subjects measured ``k`` times.

    Attributes:
        icc11: Raters differ from subject to subject.
        icc21: The same random raters for all; absolute agreement.
        icc31: The same fixed raters for all; consistency.
        icc1k: As ``icc11``, of the mean over raters.
        icc2k: As ``icc21``, of the mean over raters.
        icc3k: As ``icc31``, of the mean over raters.
    """

    icc11: float
    icc21: float
    icc31: float
    icc1k: float
    icc2k: float
    icc3k: float


def agreement(measured: Array) -> Agreement:
    """Return the six intraclass correlations.

    Args:
        measured: A row for each subject, a column for each rater, scanner or repeat; ``(n, k)``.

    Raises:
        UsageError: Fewer than two subjects or two columns (U80).

    Source:
        Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420.
    """
    if measured.ndim != 2 or min(measured.shape) < 2:
        raise unfit(
            "repeated measurements", str(measured.shape), "2 subjects and 2 columns or more"
        )
    n, k = measured.shape
    grand, rows, columns = measured.mean(), measured.mean(axis=1), measured.mean(axis=0)
    between = k * float(((rows - grand) ** 2).sum()) / (n - 1)
    raters = n * float(((columns - grand) ** 2).sum()) / (k - 1)
    within = float(((measured - rows[:, None]) ** 2).sum()) / (n * (k - 1))
    rest = measured - rows[:, None] - columns + grand
    error = float((rest**2).sum()) / ((n - 1) * (k - 1))
    return Agreement(
        icc11=_ratio(between - within, between + (k - 1) * within),
        icc21=_ratio(between - error, between + (k - 1) * error + k * (raters - error) / n),
        icc31=_ratio(between - error, between + (k - 1) * error),
        icc1k=_ratio(between - within, between),
        icc2k=_ratio(between - error, between + (raters - error) / n),
        icc3k=_ratio(between - error, between),
    )


def _ratio(above: float, below: float) -> float:
    return above / below if not np.isclose(below, 0) else math.nan

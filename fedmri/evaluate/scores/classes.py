"""Scores of called classes: each a share of counted patients, with the interval of a share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedmri.evaluate.arrays import Array, Flags, Indices, require_same_length
from fedmri.evaluate.estimate import LEVEL, Estimate
from fedmri.evaluate.proportions import mean_of_shares, mid_p, share_of


@dataclass(frozen=True)
class Table:
    """Patients by what they are and what they were called.

    Attributes:
        tp: Positive and called positive.
        fn: Positive and called negative.
        tn: Negative and called negative.
        fp: Negative and called positive.
        level: Coverage that the intervals aim at.
    """

    tp: int
    fn: int
    tn: int
    fp: int
    level: float = LEVEL

    @property
    def n(self) -> int:
        """All patients."""
        return self.tp + self.fn + self.tn + self.fp

    @property
    def accuracy(self) -> Estimate:
        """Share of patients who were called right."""
        return share_of(self.tp + self.tn, self.n, self.level)

    @property
    def baseline(self) -> float:
        """Accuracy of always calling the larger class."""
        return max(self.tp + self.fn, self.tn + self.fp) / self.n

    @property
    def sensitivity(self) -> Estimate:
        """Share of positive patients who were called positive (recall)."""
        return share_of(self.tp, self.tp + self.fn, self.level)

    @property
    def specificity(self) -> Estimate:
        """Share of negative patients who were called negative."""
        return share_of(self.tn, self.tn + self.fp, self.level)

    @property
    def precision(self) -> Estimate:
        """Share of patients called positive who are positive."""
        return share_of(self.tp, self.tp + self.fp, self.level)

    @property
    def balanced_accuracy(self) -> Estimate:
        """Mean of sensitivity and specificity, by the limits of both."""
        sizes = (self.tp + self.fn, self.tn + self.fp)
        return mean_of_shares((self.tp, self.tn), sizes, self.level)

    @property
    def f1(self) -> Estimate:
        """F1, by the share of hits among patients who are or are called positive.

        Source:
            Takahashi et al. 2022, doi:10.1007/s10489-021-02635-5 (intervals of F1).
        """
        union = self.tp + self.fn + self.fp
        if union == 0:
            return Estimate(math.nan, math.nan, math.nan, self.n)
        low, high = (2 * end / (1 + end) for end in mid_p(self.tp / union, union, self.level))
        return Estimate(2 * self.tp / (union + self.tp), low, high, self.n)

    def scores(self) -> dict[str, Estimate]:
        """Return every score by its name."""
        names = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1")
        return {name: getattr(self, name) for name in names}


def table_of(is_positive: Flags, is_called: Flags, *, level: float = LEVEL) -> Table:
    """Return the counts of a call of two classes.

    Args:
        is_positive: Truth of each patient, shape ``(n,)``.
        is_called: What the patient was called, shape ``(n,)``.
        level: Coverage that intervals aim at.

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Altman and Bland 1994, doi:10.1136/bmj.308.6943.1552.
    """
    require_same_length(is_positive=is_positive, is_called=is_called)
    truth, called = np.asarray(is_positive, bool), np.asarray(is_called, bool)
    pairs = [(truth, called), (truth, ~called), (~truth, ~called), (~truth, called)]
    tp, fn, tn, fp = (int((first & second).sum()) for first, second in pairs)
    return Table(tp, fn, tn, fp, level)


def confusion(truth: Indices, called: Indices, n_classes: int) -> Array:
    """Return the patients of each class (rows) by what they were called (columns).

    Raises:
        UsageError: Lengths differ, or there is no patient (U80).

    Source:
        Stehman 1997, doi:10.1016/S0034-4257(97)00083-7.
    """
    from sklearn.metrics import confusion_matrix

    require_same_length(truth=truth, called=called)
    return np.asarray(confusion_matrix(truth, called, labels=range(n_classes)), dtype=np.float64)


def vote(score: Array, patients: Indices, *, threshold: float = 0.5) -> Array:
    """Return the share of each patient's slices above a threshold; a tie takes the mean score.

    Args:
        score: Of each slice, shape ``(n,)``.
        patients: Place of each slice's patient, 0 to ``k - 1``, shape ``(n,)``.
        threshold: Fixed on validation patients.

    Returns:
        1 where a patient is called positive, else 0; shape ``(k,)``.

    Source:
        Kittler et al. 1998, doi:10.1109/34.667881 (vote and mean).
    """
    counts = np.maximum(1, np.bincount(patients))
    share = np.bincount(patients, (score > threshold).astype(float)) / counts
    mean = np.bincount(patients, score) / counts
    is_called = np.where(share == 0.5, mean > threshold, share > 0.5)
    return is_called.astype(np.float64)

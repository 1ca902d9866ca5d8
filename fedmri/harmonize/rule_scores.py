"""The best of several rules by the mean score of all hospitals' patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fedmri.harmonize.sums import Arrays

N_SUBJECTS, SCORES, RULE = "n_subjects", "scores", "rule"


@dataclass(frozen=True)
class RuleScores:
    """Sums of scores between 0 and 1, under each rule; the highest mean wins, the first of equals.

    Attributes:
        n_rules: Rules that are tried; the first is taken where nobody was scored.
    """

    n_rules: int
    n_steps: int = 1

    def site_sums(self, step: int, data: Iterable[Sequence[float]], shared: Arrays) -> Arrays:
        """Return the number of patients, and the sum of their scores under each rule."""
        rows = np.array([*data], dtype=np.float64).reshape(-1, self.n_rules)
        return {N_SUBJECTS: np.array([float(len(rows))]), SCORES: rows.clip(0, 1).sum(axis=0)}

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return the number of the best rule, and the mean score under each."""
        means = total[SCORES] / np.maximum(total[N_SUBJECTS], 1.0)
        return {RULE: np.array([float(means.argmax())]), SCORES: means}

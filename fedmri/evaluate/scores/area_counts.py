"""The counts behind ROC areas as sums over sites: what a site adds, and what comes of the total."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedmri.errors import HarmonizeError
from fedmri.evaluate.arrays import Array, Flags
from fedmri.evaluate.scores.federated_auc import (
    Ranges,
    counted,
    federated_auc,
    logit_edges,
    merged,
)

Sums = dict[str, Array]
Rank = tuple[Array, Flags]
"""Probability of one class for each patient, and whose class it is; shapes ``(n,)``."""
NAMES = ("positive_low", "positive_high", "negative_low", "negative_high")
"""Counts of a site, see ``Ranges``; each of shape ``(n_areas, n_bins)``."""
AREA = ("value", "error_bound", "low", "high", "n_subjects")
"""What is told of an area; NaN where a class has no patient."""


@dataclass(frozen=True)
class AreaCounts:
    """Counts of patients by bins, as sums over sites.

    Attributes:
        n_areas: Classes with an area of their own.
        n_bins: Bins of probability.
        n_least: Patients behind each count that is not 0.
    """

    n_areas: int
    n_bins: int
    n_least: int
    n_steps: int = 1

    def site_sums(self, step: int, data: Iterable[Rank], shared: Sums) -> Sums:
        """Return the counts of each area, each array of shape ``(n_areas, n_bins)``."""
        sums = {name: np.zeros((self.n_areas, self.n_bins)) for name in NAMES}
        for place, (score, is_positive) in enumerate(data):
            if len(score):
                counts = counted(score, is_positive, logit_edges(self.n_bins))
                ranges = merged(counts, self.n_least)
                for name in NAMES:
                    sums[name][place] = getattr(ranges, name)
        return sums

    def combine(self, step: int, total: Sums, shared: Sums) -> Sums:
        """Return each area with its error bound, interval and patients, arrays ``(n_areas,)``.

        Raises:
            HarmonizeError: The total holds what are no counts of patients (H01).
        """
        self.refuse_odd(step, total)
        found = np.full((self.n_areas, len(AREA)), np.nan)
        for place in range(self.n_areas):
            ranges = Ranges(*(total[name][place] for name in NAMES))
            if ranges.positive_low.any() and ranges.negative_low.any():
                area = federated_auc([ranges])
                found[place] = [getattr(area, name) for name in AREA]
        return {name: found[:, column] for column, name in enumerate(AREA)}

    def refuse_odd(self, step: int, sums: Sums) -> None:
        """Refuse numbers that count nobody, or classes with more low ends than high ends (H01)."""
        is_whole = all((v >= 0).all() and (v == np.rint(v)).all() for v in sums.values())
        ends = [(sums[f"{side}_low"], sums[f"{side}_high"]) for side in ("positive", "negative")]
        # a range never ends below where it begins
        is_ordered = all(
            (low.sum(axis=1) == high.sum(axis=1)).all()
            and (np.cumsum(low, axis=1) >= np.cumsum(high, axis=1)).all()
            for low, high in ends
        )
        if not (is_whole and is_ordered):
            fix = "have all sites run the same version of fedmri; a site may have sent wrong counts"
            what, want = "sums of counted_auc", "counts of patients by range"
            raise HarmonizeError("H01", what, found="other numbers", want=want, fix=fix)

"""Mean and standard deviation of a regression's target over all hospitals' patients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedmri.errors import HarmonizeError
from fedmri.harmonize.sums import Arrays

CENTRE, SCALE = "centre", "scale"
N_SUBJECTS, FIRST, SECOND = "n_subjects", "first", "second"


@dataclass(frozen=True)
class TargetMoments:
    """Mean and standard deviation of a target as a stage of sums, over patients.

    Sums are of distances from a declared centre, which do not cancel as squares of large values do.

    Attributes:
        centre: A first guess of the mean.
        scale: A first guess of the standard deviation.
        most: Scales from the centre at which a patient counts at most.
    """

    centre: float
    scale: float
    most: float
    n_steps: int = 1

    def site_sums(self, step: int, data: Iterable[float], shared: Arrays) -> Arrays:
        """Return number, sum and sum of squares over patients, in declared scales."""
        values = np.array([*data], dtype=np.float64)
        apart = np.clip((values - self.centre) / self.scale, -self.most, self.most)
        sums = {N_SUBJECTS: float(len(apart)), FIRST: apart.sum(), SECOND: np.square(apart).sum()}
        return {name: np.array([value]) for name, value in sums.items()}

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return centre and scale in the target's unit; the declared scale where all are alike.

        Raises:
            HarmonizeError: There is no training patient (H20).
        """
        n = float(total[N_SUBJECTS][0])
        if n < 1:
            want, fix = "one or more", "have at least one site with training patients take part"
            raise HarmonizeError("H20", "training patients", found="none", want=want, fix=fix)
        mean = total[FIRST] / n
        deviation = np.sqrt(np.maximum(total[SECOND] / n - mean**2, 0.0))
        spread = np.where(deviation > 1e-6, deviation, 1.0)
        return {CENTRE: self.centre + mean * self.scale, SCALE: spread * self.scale}

"""What a private last layer costs and loses, before anything is spent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmri.errors import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedmri.privacy.head_sums import HeadSums

    Array = NDArray[np.float64]

NUMBERS = (8, 16, 32, 64)
"""How many numbers a patient's embedding may be projected to."""
HALF = 8
"""Numbers that keep half of the squared distance between two classes; k keep k / (k + 8)."""
N_DRAWS, N_TESTED = 40, 1000


@dataclass(frozen=True)
class HeadRow:
    """What to expect of a number of numbers.

    Attributes:
        n_numbers: Numbers of a patient.
        auc: Expected area under the curve without noise.
        private_auc: The same with noise.
    """

    n_numbers: int
    auc: float
    private_auc: float

    @property
    def loss(self) -> float:
        """What the noise costs."""
        return self.auc - self.private_auc


@dataclass(frozen=True)
class HeadPlan:
    """Noise for an epsilon of one patient in one release, and what it does in a simulation.

    Attributes:
        noise_multiplier: Noise of the sum, in units of the most that one patient can add.
        epsilon: What the release costs a patient of one hospital.
        delta: Probability that epsilon does not hold.
        n_shares: Hospitals whose noise makes the whole together.
        rows: By number of numbers.
    """

    noise_multiplier: float
    epsilon: float
    delta: float
    n_shares: int
    rows: tuple[HeadRow, ...]

    @property
    def best(self) -> HeadRow:
        """The row with the best expected area under noise."""
        return max(self.rows, key=lambda row: row.private_auc)

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings that release this."""
        key, n_needed = "stages.private_head", self.n_shares + 1
        found = [
            f"{key}.noise_multiplier={self.noise_multiplier:.4g}",
            f"{key}.n_numbers={self.best.n_numbers}",
        ]
        if self.n_shares > 1:
            shared = f"{key}.n_shares={self.n_shares}"
            found += [shared, "secagg.is_on=true", f"secagg.threshold={n_needed}"]
        return ("harmonize=private_head", "rounds.n_rounds=0", *found)


def head_plan(  # noqa: PLR0913  # every one is named at the call
    patients: int,
    *,
    sites: int = 3,
    epsilon: float = 8.0,
    delta: float = 0.0,
    is_shared: bool = False,
    auc: float = 0.9,
) -> HeadPlan:
    """Find the noise of a private last layer, and simulate what it loses.

    Two classes of patients are drawn as Gaussians, with their sums, noise and fit as in a run.

    Args:
        patients: Training patients of each hospital.
        sites: Hospitals.
        epsilon: What the release may cost one patient.
        delta: 0 is one tenth over the patients of a hospital.
        is_shared: Whether all hospitals but one share the noise, under secure sums.
        auc: Area under the curve that all of an embedding would have with endless patients.

    Raises:
        ConfigError: A number cannot be taken (C01).
    """
    from fedmri.privacy.accounting import Steps, noise_for, spent

    require(0 < epsilon < math.inf, "--epsilon", epsilon, "a positive number")
    require(patients >= 1, "--patients", patients, "1 or more")
    require(sites >= (3 if is_shared else 1), "--sites", sites, "1 or more, 3 with shared noise")
    require(0 <= delta < 1, "--delta", delta, "0 or more, below 1")
    require(0.5 <= auc < 1, "--auc", auc, "0.5 or more, below 1")
    bound = delta or 0.1 / patients
    noise = noise_for(epsilon, bound, 1.0, 1)
    n_shares = sites - 1 if is_shared else 1
    rows = []
    for n in NUMBERS:
        clear, noised = (_simulated(n, patients, sites, z, n_shares, auc) for z in (0.0, noise))
        rows.append(HeadRow(n, clear, noised))
    cost = spent([Steps(noise, 1.0, 1)], bound).epsilon
    return HeadPlan(noise, cost, bound, n_shares, tuple(rows))


def _simulated(  # noqa: PLR0913  # the numbers of a simulation
    n_numbers: int, patients: int, sites: int, noise: float, n_shares: int, auc: float
) -> float:
    """Return the mean area under the curve over draws of patients and noise."""
    import numpy as np
    from scipy.special import ndtri

    from fedmri.privacy.head_sums import HeadSums

    kept = n_numbers / (n_numbers + HALF)
    apart = math.sqrt(2 * kept) * float(ndtri(auc))  # of two Gaussians with this area
    fit = HeadSums(n_numbers, 1, noise, n_shares)
    source = np.random.default_rng(n_numbers)
    areas = [_drawn(fit, patients, sites, apart, source) for _ in range(N_DRAWS)]
    return float(np.mean(areas))


def _drawn(
    fit: HeadSums, patients: int, sites: int, apart: float, source: np.random.Generator
) -> float:
    import numpy as np

    from fedmri.privacy.head_sums import MODEL, N_SITES, Patients

    direction = source.normal(size=fit.n_numbers)
    direction /= np.linalg.norm(direction)

    def drawn(n: int) -> Patients:
        answers = np.where(source.random((n, 1)) < 0.5, 1.0, -1.0)
        numbers = source.normal(size=(n, fit.n_numbers)) + answers * direction * apart / 2
        return Patients(numbers / (2 * math.sqrt(fit.n_numbers)), answers)

    held, shared = [drawn(patients) for _ in range(sites)], dict[str, "Array"]()
    for step in range(fit.n_steps):
        std = fit.noise_of(step) / math.sqrt(fit.n_shares)
        total: dict[str, Array] = {}
        for one in held:
            for name, values in fit.site_sums(step, one, shared).items():
                noise = source.normal(0, 1, values.shape) * (name != N_SITES) * std
                total[name] = total.get(name, 0) + values + noise
        shared = fit.combine(step, total, shared)
    tested = drawn(N_TESTED)
    scores = (fit.rows(tested.numbers, shared) @ shared[MODEL]).ravel()
    return _area(scores, tested.answers.ravel() > 0)


def _area(scores: Array, is_one: NDArray[np.bool_]) -> float:
    from scipy.stats import rankdata

    n_one = int(is_one.sum())
    above = rankdata(scores)[is_one].sum() - n_one * (n_one + 1) / 2
    return float(above / (n_one * (len(scores) - n_one)))

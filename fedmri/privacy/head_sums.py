"""A linear model of few numbers from two releases of noised sums over patients.

First the sums of the patients' numbers say where they lie and how far they spread. Then they are
centred and scaled by that, and the sums of their products, with each other and with the answers,
give the model by ridge regression. A patient adds a vector of length 1 at most to either release,
whatever the number of its scans. Noise of ``z`` in the unit of that vector, split between the two
releases, costs as much as one release with ``z``.

Source:
    Mehta, Thakurta, Kurakin and Cutkosky 2022, Differentially private image classification from
    features, arXiv:2211.13403 (least squares on features of a network); Wang 2018, Revisiting
    differentially private linear regression, arXiv:1803.02596 (ridge by the noise).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError

Array: TypeAlias = NDArray[np.float64]

SHARES = (0.3, 0.7)
"""Of the cost, by release: where the numbers lie needs little."""
CONSTANT = 0.3
"""What every patient has beside its numbers; the rest of its length is left to them."""
ON_ANSWERS = 2.0
"""How much more a patient's products with the answers weigh than those of its numbers."""
RIDGE, RIDGE_OF_NOISE = 1e-2, 0.3
"""Penalty without noise, and in units of the usual largest eigenvalue of the noise."""
SUM, SQUARES, COUNT = "sum", "squares", "count"
PRODUCTS, COVERED, N_SITES = "products", "covered", "n_sites"
CENTRE, RADIUS, MODEL = "centre", "radius", "model"


@dataclass(frozen=True)
class Patients:
    """What is summed.

    Attributes:
        numbers: Numbers of each patient, shape ``(n, k)``; a row longer than 1 is clipped.
        answers: Its answer as numbers, shape ``(n, m)``; a row longer than 1 is clipped.
    """

    numbers: Array
    answers: Array


@dataclass(frozen=True)
class HeadSums:
    """The two releases as a ``SumStage``.

    Attributes:
        n_numbers: Numbers of a patient.
        n_answers: Numbers of its answer.
        noise_multiplier: Noise of the sum over ``n_shares`` sites, for both releases together; 0
            for none.
        n_shares: Sites whose noise makes the whole together.
    """

    n_numbers: int
    n_answers: int
    noise_multiplier: float = 0.0
    n_shares: int = 1
    n_steps: int = 2

    def noise_of(self, step: int) -> float:
        """Return the noise multiplier of one release, of the sum over ``n_shares`` sites."""
        return self.noise_multiplier / math.sqrt(SHARES[step])

    def site_sums(
        self, step: int, data: Patients | tuple[()], shared: dict[str, Array]
    ) -> dict[str, Array]:
        """Return a site's sums, without noise, and that it is one site."""
        held = data if isinstance(data, Patients) else self._nobody()
        numbers = clipped(held.numbers)
        if step == 0:
            sums = {
                SUM: numbers.sum(axis=0),
                SQUARES: np.array([(numbers**2).sum()]),
                COUNT: np.array([float(len(numbers))]),
            }
            found = {name: values / math.sqrt(3) for name, values in sums.items()}
        else:
            rows, answers = self.rows(numbers, shared), clipped(held.answers)
            length = math.hypot(1, ON_ANSWERS)
            found = {
                PRODUCTS: _packed(rows.T @ rows) / length,
                COVERED: ON_ANSWERS * (rows.T @ answers) / length,
            }
        return {**found, N_SITES: np.ones(1)}

    def rows(self, numbers: Array, shared: dict[str, Array]) -> Array:
        """Return a constant and the centred and scaled numbers, each row 1 long at most."""
        within = clipped((numbers - shared[CENTRE]) / shared[RADIUS])
        constant = np.full((len(within), 1), CONSTANT)
        return np.hstack([constant, math.sqrt(1 - CONSTANT**2) * within])

    def combine(
        self, step: int, total: dict[str, Array], shared: dict[str, Array]
    ) -> dict[str, Array]:
        """Return centre and radius; after the second release also the model, ``(1 + k, m)``.

        Raises:
            HarmonizeError: Not one patient is left after noise (H20).
        """
        n_sites = float(total[N_SITES][0])
        deviation = self.noise_of(step) * math.sqrt(max(1.0, n_sites) / self.n_shares)
        if step == 0:
            return self._place(total, deviation)
        length = math.hypot(1, ON_ANSWERS)
        products = _unpacked(total[PRODUCTS] * length, self.n_numbers + 1)
        covered = total[COVERED] * length / ON_ANSWERS
        noise = deviation * length * math.sqrt(2 * (self.n_numbers + 1))
        values, vectors = np.linalg.eigh(products)
        strengths = np.maximum(values, 0) + RIDGE + RIDGE_OF_NOISE * noise
        return {**shared, MODEL: (vectors / strengths) @ (vectors.T @ covered)}

    def _place(self, total: dict[str, Array], deviation: float) -> dict[str, Array]:
        """Return where the numbers lie; a mean that noise may have made is shrunk to 0."""
        count = float(total[COUNT][0]) * math.sqrt(3)
        if count < 1:
            fix = "have more patients, or lower stages.private_head.noise_multiplier"
            found = f"{count:.1f} patients, after the plan's noise"
            raise HarmonizeError("H20", "private head", found=found, want="one or more", fix=fix)
        mean = total[SUM] * math.sqrt(3) / count
        mean_square = float(total[SQUARES][0]) * math.sqrt(3) / count
        error = self.n_numbers * 3 * (deviation / count) ** 2
        length = float(mean @ mean)
        centre = mean * max(0.0, 1 - error / max(length, 1e-12))
        # a smaller spread could be the noise's doing, and numbers clipped to it fit nobody
        least = math.sqrt(3) * deviation / count
        spread = max(least, mean_square - max(0.0, length - error))
        radius = min(1.0, math.sqrt(spread + min(error, length)))
        return {CENTRE: centre, RADIUS: np.array([max(radius, 1e-6)])}

    def _nobody(self) -> Patients:
        return Patients(np.zeros((0, self.n_numbers)), np.zeros((0, self.n_answers)))


def clipped(rows: Array) -> Array:
    """Return rows none of which is longer than 1; one that is not finite is 0."""
    finite = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
    lengths = np.linalg.norm(finite, axis=1, keepdims=True)
    return np.asarray(finite / np.maximum(lengths, 1.0))


def _packed(products: Array) -> Array:
    """Return half of a symmetric matrix as a vector of the same length (L2)."""
    above = np.triu_indices(len(products), 1)
    return np.concatenate([np.diag(products), math.sqrt(2) * products[above]])


def _unpacked(packed: Array, n: int) -> Array:
    found = np.zeros((n, n))
    found[np.triu_indices(n, 1)] = packed[n:] / math.sqrt(2)
    found += found.T
    found[np.diag_indices(n)] = packed[:n]
    return found

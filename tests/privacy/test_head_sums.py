"""A last layer from two noised releases: what a patient adds, what it costs, what comes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from fedmri.errors import HarmonizeError
from fedmri.harmonize.sums import add, run
from fedmri.leakage.epsilon import epsilon_at_least
from fedmri.privacy.accounting import Steps, noise_for, spent
from fedmri.privacy.gaussian import gaussian_delta, gaussian_epsilon
from fedmri.privacy.head_sums import MODEL, N_SITES, HeadSums, Patients

Array = NDArray[np.float64]
K, M = 5, 2


def patients(n: int, seed: int, size: float = 0.2) -> Patients:
    """Return patients whose answers are linear in their numbers."""
    source = np.random.default_rng(seed)
    numbers = 0.1 + size * source.normal(size=(n, K)) / math.sqrt(K)
    return Patients(numbers, numbers[:, :M] * 2)


def flat(sums: dict[str, Array]) -> Array:
    """Return all that is noised as one vector."""
    return np.concatenate([sums[name].ravel() for name in sorted(sums) if name != N_SITES])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, math.nan])
def test_a_patient_adds_a_vector_of_length_one_at_most(scale: float) -> None:
    """In either release, whatever the patient is; and 1 is reached, so no noise is wasted."""
    fit, base = HeadSums(K, M), patients(9, 0)
    source, longest = np.random.default_rng(1), 0.0
    shared: dict[str, Array] = {}
    for step in range(fit.n_steps):
        before = flat(fit.site_sums(step, base, shared))
        for _ in range(30):
            one = Patients(scale * source.normal(size=(1, K)), scale * source.normal(size=(1, M)))
            held = Patients(*(np.vstack(v) for v in zip(_parts(base), _parts(one), strict=True)))
            moved = float(np.linalg.norm(flat(fit.site_sums(step, held, shared)) - before))
            assert moved <= 1 + 1e-9
            longest = max(longest, moved)
        shared = fit.combine(step, fit.site_sums(step, base, shared), shared)
    assert scale != 1e6 or longest == pytest.approx(1, abs=1e-6)


def _parts(held: Patients) -> tuple[Array, Array]:
    return held.numbers, held.answers


def test_both_releases_cost_as_much_as_one() -> None:
    """What the ledger adds up is the multiplier of the plan."""
    fit = HeadSums(K, M, noise_multiplier=0.7)
    lines = [Steps(fit.noise_of(step), 1.0, 1) for step in range(fit.n_steps)]
    want = spent([Steps(0.7, 1.0, 1)], 1e-3)
    assert spent(lines, 1e-3).epsilon == pytest.approx(want.epsilon, rel=1e-9)
    assert want.accountant == "exact"


def test_the_cost_of_one_release_is_exact() -> None:
    """Balle and Wang's formula is known at epsilon 0, and noise for an epsilon costs it."""
    assert gaussian_delta(0.0, 1.0) == pytest.approx(2 * norm.cdf(0.5) - 1, rel=1e-12)
    assert gaussian_delta(gaussian_epsilon(2.0, 1e-4), 2.0) == pytest.approx(1e-4, rel=1e-9)
    noise = noise_for(3.0, 1e-3, 1.0, 1)
    assert 2.99 < gaussian_epsilon(1 / noise, 1e-3) <= 3.0


def test_sums_of_hospitals_give_the_model_of_all_their_patients() -> None:
    """Without noise, three hospitals and one of all patients end alike, and find the answer."""
    fit, all_of_them = HeadSums(K, M), patients(90, 3)
    parts = [Patients(*(v[i::3] for v in _parts(all_of_them))) for i in range(3)]
    apart, whole = run(fit, parts), run(fit, [all_of_them])
    for name, value in whole.items():
        np.testing.assert_allclose(apart[name], value, rtol=1e-9, atol=1e-12)
    new = patients(50, 4, size=0.1)
    found = fit.rows(new.numbers, whole) @ whole[MODEL]
    assert np.corrcoef(found[:, 0], new.answers[:, 0])[0, 1] > 0.99


def test_nobody_left_under_noise_is_told() -> None:
    """A count below one has no mean."""
    with pytest.raises(HarmonizeError, match=r"private head: found 0.0 patients.*\[H20\]"):
        run(HeadSums(K, M), [Patients(np.zeros((0, K)), np.zeros((0, M)))])


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_an_attack_on_the_worst_patient_stays_below_epsilon(epsilon: float) -> None:
    """Who knows all other patients sees no more than was accounted for, and not much less."""
    delta, n = 1e-3, 20_000
    fit = HeadSums(K, M, noise_for(epsilon, delta, 1.0, 1))
    known = patients(20, 5)
    worst = Patients(np.eye(1, K) * 1e6, np.eye(1, M) * 1e6)
    joined = Patients(*(np.vstack(v) for v in zip(_parts(known), _parts(worst), strict=True)))
    source = np.random.default_rng(6)
    place = fit.combine(0, fit.site_sums(0, known, {}), {})

    def scores(held: Patients) -> Array:
        total = np.zeros(n)
        for step, shared in ((0, {}), (1, place)):
            alone = flat(fit.site_sums(step, worst, shared))
            shift = flat(fit.site_sums(step, held, shared)) - flat(
                fit.site_sums(step, known, shared)
            )
            std = fit.noise_of(step)
            seen = shift + std * source.normal(size=(n, shift.size))
            total += seen @ alone / std**2
        return total

    found = epsilon_at_least(scores(joined), scores(known), delta, 0)
    assert 0.4 * epsilon < found <= epsilon


def test_the_noise_of_shares_is_that_of_the_whole() -> None:
    """Shrinkage goes by the noise on the sum: three sites with a share each, or one with all."""
    total = add([HeadSums(K, M).site_sums(0, patients(30, i), {}) for i in range(3)])
    shared = HeadSums(K, M, 0.5, n_shares=3).combine(0, total, {})
    alone = HeadSums(K, M, 0.5).combine(0, {**total, N_SITES: np.ones(1)}, {})
    for name, value in alone.items():
        np.testing.assert_allclose(shared[name], value, rtol=1e-12)

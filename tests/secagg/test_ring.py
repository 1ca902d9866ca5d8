"""Fixed point and shares: what is carried exactly, and what is refused rather than wrapped."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmri.errors import ConfigError, PrivacyError, RoundError
from fedmri.secagg.ring import (
    BLOCK,
    Slot,
    decode,
    encode,
    weighted,
    weighted_mean,
    weighted_slots,
)
from fedmri.secagg.shares import PRIME, combine, split
from tests.secagg.parties import draws


@settings(deadline=None)
@given(st.lists(st.floats(-1e8, 1e8), min_size=1, max_size=9), st.sampled_from([24, 32, 36]))
def test_rounding_costs_half_a_step(values: list[float], bits: int) -> None:
    """There and back changes a value by half of its last bit at most."""
    slots = {"x": Slot((len(values),), bits)}
    back = decode(encode({"x": np.array(values)}, slots, 1), slots)["x"]
    assert np.abs(back - values).max() <= 2.0 ** -(bits + 1)


@pytest.mark.parametrize("n_sites", [3, 5, 7, 20, 1000])
def test_the_largest_values_of_all_sites_do_not_wrap(n_sites: int) -> None:
    """The sum of n values next to the bound, of either sign, is the sum in whole numbers."""
    for slot in (Slot(), Slot((), 0)):
        most = np.nextafter(slot.limit(n_sites), 0)
        most = np.floor(most) if slot.fraction_bits == 0 else most
        for value in (most, -most):
            typed = np.array(int(value)) if slot.fraction_bits == 0 else np.array(value)
            vector = encode({"x": typed}, {"x": slot}, n_sites)
            with np.errstate(over="ignore"):
                total = decode(vector * np.uint64(n_sites), {"x": slot})["x"]
            assert total == pytest.approx(n_sites * float(value), rel=1e-15)
            assert np.sign(total) == np.sign(value)


@pytest.mark.parametrize(
    ("value", "slot"),
    [
        (np.array([1.0, 2.0**31 / 3]), Slot((2,))),
        (np.array([-(2.0**31), 0]), Slot((2,))),
        (np.array([np.nan, 0]), Slot((2,))),
        (np.array([0, -np.inf]), Slot((2,))),
        (np.array([1, 2**53 // 3 + 1]), Slot((2,), 0)),
        (np.array([2**64 - 1, 0], dtype=np.uint64), Slot((2,), 0)),
        (np.array([1.0, 2.0]), Slot((2,), 0)),
        (np.array(["a", "b"]), Slot((2,))),
        (np.array([1j, 0]), Slot((2,))),
        (np.zeros((1, 2)), Slot((2,))),
        (np.zeros(3), Slot((2,))),
    ],
    ids=str,
)
def test_what_cannot_be_summed_is_refused(value: NDArray[np.generic], slot: Slot) -> None:
    """Never does a value wrap around, get cut or change its type in silence."""
    with pytest.raises(PrivacyError, match=r"x of a secure sum.*P55"):
        encode({"x": value}, {"x": slot}, 3)


def test_names_must_be_those_of_the_sum() -> None:
    """A missing or an extra array is refused."""
    slots = {"x": Slot()}
    for values in ({}, {"x": np.array(1.0), "y": np.array(1.0)}):
        with pytest.raises(PrivacyError, match="P55"):
            encode(values, slots, 3)


def test_arrays_of_every_sort_come_back() -> None:
    """Scalars, empty arrays, views, narrow types and arrays of more than one block."""
    source = np.random.default_rng(0)
    values: dict[str, NDArray[np.generic]] = {
        "scalar": np.array(-0.5),
        "empty": np.zeros((0, 3)),
        "view": source.normal(size=(4, 6)).T.round(3)[::2],
        "half": np.array([0.25, -2.0], dtype=np.float16),
        "flags": np.array([True, False]),
        "long": source.normal(size=2 * BLOCK + 7).astype(np.float32),
    }
    slots = {k: Slot(v.shape, 0 if v.dtype == bool else 40) for k, v in values.items()}
    back = decode(encode(values, slots, 3), slots)
    for name, value in values.items():
        assert back[name].shape == value.shape
        np.testing.assert_allclose(back[name], value.astype(np.float64), rtol=0, atol=2.0**-41)


def test_a_weighted_mean_needs_sums_alone() -> None:
    """(1 * 2 + 3 * 6) / (1 + 3) is 5: neither weight nor value of a site is needed."""
    slots = weighted_slots({"x": Slot((1,))})
    sites = [weighted({"x": np.array([2.0])}, 1), weighted({"x": np.array([6.0])}, 3)]
    vectors = [encode(values, slots, 3) for values in sites]
    assert weighted_mean(decode(vectors[0] + vectors[1], slots))["x"] == [5.0]
    with pytest.raises(RoundError, match="R02"):
        weighted_mean(decode(encode(weighted({"x": np.ones(1)}, 0), slots, 3), slots))


@pytest.mark.parametrize("bits", [-1, 1, 23, 57])
def test_fewer_than_24_bits_are_refused(bits: int) -> None:
    """They would cost harmonization its precision."""
    with pytest.raises(ConfigError, match=r"fraction_bits.*C01"):
        Slot((), bits)


def test_the_field_is_one() -> None:
    """Shares need a prime: it passes Fermat's test to the first twelve bases."""
    assert all(pow(a, PRIME - 1, PRIME) == 1 for a in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37))


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, draws(3)(32)])
def test_any_enough_shares_give_the_secret(secret: bytes) -> None:
    """Whichever three of five; two give something else."""
    shares = split(secret, [1, 2, 4, 5, 9], 3, draws(1))
    for points in combinations(shares, 3):
        assert combine({point: shares[point] for point in points}) == secret
    assert combine({point: shares[point] for point in (1, 9)}) != secret


def test_fewer_shares_fit_every_secret() -> None:
    """With two of three shares given, each secret has a third share that fits: they say nothing."""
    shares = split(b"a" * 32, [1, 2, 3], 3, draws(2))
    for wanted in (b"b" * 32, b"c" * 32):
        # the line through points 1, 2 and the value at 0 is a parabola's; its value at 3 is
        # a0 - 3 a1 + 3 a2 (third differences vanish)
        a0, a1, a2 = (int.from_bytes(v) for v in (wanted, shares[1], shares[2]))
        third = ((a0 - 3 * a1 + 3 * a2) % PRIME).to_bytes(33)
        assert combine({1: shares[1], 2: shares[2], 3: third}) == wanted

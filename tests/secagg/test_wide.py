"""Sums of float64 in limbs: exact where one word of the ring would wrap around."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmri.errors import PrivacyError
from fedmri.secagg.ring import decode, encode
from fedmri.secagg.wide import LARGEST, from_limbs, to_limbs, wide_slots

VALUES = st.floats(-LARGEST / 2, LARGEST / 2, allow_nan=False)


@given(st.lists(st.lists(VALUES, min_size=2, max_size=2), min_size=1, max_size=6))
def test_the_sum_is_that_of_the_rounded_values(rows: list[list[float]]) -> None:
    """Whatever magnitudes meet: the ring's sum is the sum of fractions, rounded once."""
    slots = wide_slots({"x": (2,)})
    each = [encode(to_limbs({"x": np.array(row)}), slots, len(rows)) for row in rows]
    total = np.add.reduce(np.stack(each), axis=0, dtype=np.uint64)
    found = from_limbs(decode(np.asarray(total), slots))["x"]
    for column, value in enumerate(found):
        steps = sum(round(Fraction(row[column]) * 2**32) for row in rows)
        assert value == float(Fraction(steps, 2**32))


@pytest.mark.parametrize("value", [np.nan, np.inf, LARGEST])
def test_what_does_not_fit_is_refused(value: float) -> None:
    """A sum that wrapped around would look like any other."""
    with pytest.raises(PrivacyError, match=r"x of a secure sum.*\[P55\]"):
        to_limbs({"x": np.array([1.0, value])})


def test_a_scalar_stays_one() -> None:
    """Sums of harmonization have arrays of every shape."""
    sums = {name: v.astype(np.float64) for name, v in to_limbs({"n": np.array(-7.25)}).items()}
    found = from_limbs(sums)["n"]
    assert found.shape == ()
    assert found == -7.25

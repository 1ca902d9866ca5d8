"""Sums of float64 in limbs: wide enough for squares over all voxels of all sites.

A value is a whole number of steps of 2^-32, cut into three limbs of 40 bits that are summed as
whole numbers. It carries magnitudes up to 2^87, where one word of the ring would wrap around.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import PrivacyError
from fedmri.secagg.ring import Slot

FRACTION_BITS, LIMB_BITS, N_LIMBS = 32, 40, 3
LARGEST = 2.0 ** (N_LIMBS * LIMB_BITS - FRACTION_BITS - 1)


def wide_slots(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Slot]:
    """Return the slots of what ``to_limbs`` returns."""
    return {name: Slot((N_LIMBS, *shape), 0) for name, shape in shapes.items()}


def to_limbs(arrays: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.int64]]:
    """Return each array as whole limbs, shape ``(3, *shape)``, the lowest first.

    Raises:
        PrivacyError: A value is not finite, or of magnitude 2^87 or more (P55).
    """
    return {name: _limbs(name, np.asarray(values)) for name, values in arrays.items()}


def from_limbs(sums: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the arrays of sums of limbs, each rounded once to float64 from its exact sum."""
    return {name: _whole(values) for name, values in sums.items()}


def _limbs(name: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
    if not bool((np.abs(values) < LARGEST).all()):  # false for NaN too
        fix = "look at that site's images or table"
        found, want = "a value that is too large or not finite", f"magnitudes below {LARGEST:.3g}"
        raise PrivacyError("P55", f"{name} of a secure sum", found=found, want=want, fix=fix)
    rest = np.ldexp(values, FRACTION_BITS)
    limbs = np.empty((N_LIMBS, *values.shape), dtype=np.int64)
    for place in range(N_LIMBS - 1, 0, -1):
        # exact, for what is cut off are the leading bits: a floor would make rests of small
        # negative numbers that no float holds
        high = np.trunc(np.ldexp(rest, -place * LIMB_BITS))
        limbs[place] = high.astype(np.int64)
        rest = rest - np.ldexp(high, place * LIMB_BITS)
    limbs[0] = np.rint(rest).astype(np.int64)
    return limbs


def _whole(limbs: NDArray[np.float64]) -> NDArray[np.float64]:
    # whole numbers of Python: limbs of a small negative sum are large and cancel
    flat = limbs.reshape(N_LIMBS, -1).T.astype(np.int64).tolist()
    totals = [sum(part << place * LIMB_BITS for place, part in enumerate(v)) for v in flat]
    whole = np.array([float(total) for total in totals], dtype=np.float64)
    whole = whole.reshape(limbs.shape[1:])
    return np.asarray(np.ldexp(whole, -FRACTION_BITS))

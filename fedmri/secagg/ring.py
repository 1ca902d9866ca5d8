"""Fixed point: real arrays as whole numbers modulo 2^64, whose sums are exact in any order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import PrivacyError, RoundError, require

LEAST_BITS, MOST_BITS = 24, 56
WEIGHT = "weight"
"""Entry of ``weighted`` that holds the weight itself."""

BLOCK = 1 << 16
"""Words that are worked on at once: half a MiB stays in a core's cache."""


@dataclass(frozen=True)
class Slot:
    """Shape and precision of an array that is summed.

    Attributes:
        shape: Shape of the array.
        fraction_bits: Values are rounded to the nearest multiple of ``2 ** -fraction_bits``, half
            to even; with 32 that is 2.3e-10, and n sites may hold values below 2^31 / n. 0 is for
            whole numbers, which are summed exactly.
    """

    shape: tuple[int, ...] = ()
    fraction_bits: int = 32

    def __post_init__(self) -> None:
        bits = self.fraction_bits
        is_known = bits == 0 or LEAST_BITS <= bits <= MOST_BITS
        require(is_known, "fraction_bits", bits, f"0, or {LEAST_BITS} to {MOST_BITS}")

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def limit(self, n_sites: int) -> float:
        """Return the magnitude that a value of one of ``n_sites`` sites must stay below."""
        # whole numbers come back as float64, which holds them exactly below 2^53
        bits = 53 if self.fraction_bits == 0 else 63 - self.fraction_bits
        return math.ldexp(1.0, bits) / n_sites


def n_words(slots: Mapping[str, Slot]) -> int:
    """Return the length of the vector that ``encode`` returns."""
    return sum(slot.size for slot in slots.values())


def encode(
    values: Mapping[str, NDArray[np.generic]], slots: Mapping[str, Slot], n_sites: int
) -> NDArray[np.uint64]:
    """Return arrays as one vector of the ring of whole numbers modulo 2^64.

    Args:
        values: Arrays by name, of the slots' shapes: real numbers, or whole numbers where a slot
            has no fraction bits.
        slots: What is summed.
        n_sites: Sites whose vectors may be added: the bound on a value leaves room for all.

    Returns:
        Shape ``(n_words,)``, entries in ascending order of name; negative numbers as their
        complement.

    Raises:
        PrivacyError: A name, shape or type is not that of its slot; a value is not finite, or so
            large that the sum could wrap around (P55).
    """
    if values.keys() != slots.keys():
        odd = sorted(values.keys() ^ slots.keys())
        raise _unfit("names", f"{len(odd)} that differ, such as {odd[0]!r}", "those of the sum")
    vector = np.empty(n_words(slots), dtype=np.uint64)
    for name, part in _parts(vector, slots):
        slot, value = slots[name], np.asarray(values[name])
        if value.shape != slot.shape:
            raise _unfit(name, f"shape {value.shape}", f"shape {slot.shape}")
        if value.dtype.kind not in ("iub" if slot.fraction_bits == 0 else "fiub"):
            want = "whole numbers" if slot.fraction_bits == 0 else "real numbers"
            raise _unfit(name, f"values of type {value.dtype}", want)
        _encode(name, value, slot, part, n_sites)
    return vector


def _encode(
    name: str, value: NDArray[np.generic], slot: Slot, part: NDArray[np.uint64], n_sites: int
) -> None:
    flat, whole, limit = value.reshape(-1), part.view(np.int64), slot.limit(n_sites)
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK].astype(np.float64)
        largest = max(float(block.max()), -float(block.min()))
        if not largest < limit:  # true for NaN too
            raise _unfit(name, f"magnitude {largest:.3g}", f"finite and below {limit:.3g}")
        block *= 2.0**slot.fraction_bits
        np.rint(block, out=block)
        whole[start : start + BLOCK] = block  # as int64


def decode(vector: NDArray[np.uint64], slots: Mapping[str, Slot]) -> dict[str, NDArray[np.float64]]:
    """Return the arrays of a vector that ``encode`` made, or of a sum of such vectors."""
    steps = {name: 2.0**-slot.fraction_bits for name, slot in slots.items()}
    return {
        name: np.multiply(part.view(np.int64), steps[name]).reshape(slots[name].shape)
        for name, part in _parts(vector, slots)
    }


def weighted(
    values: Mapping[str, NDArray[np.generic]], weight: float
) -> dict[str, NDArray[np.float64]]:
    """Return what a site gives to a weighted mean: each array times its weight, and the weight."""
    if WEIGHT in values:
        raise _unfit(WEIGHT, "an array of this name", "another name")
    parts = {name: np.multiply(v, weight, dtype=np.float64) for name, v in values.items()}
    return {**parts, WEIGHT: np.array(weight, dtype=np.float64)}


def weighted_slots(slots: Mapping[str, Slot]) -> dict[str, Slot]:
    """Return the slots of what ``weighted`` returns; none of them may be of whole numbers."""
    return {**slots, WEIGHT: Slot()}


def weighted_mean(sums: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the mean of what sites gave by ``weighted``, of the sums alone.

    Raises:
        RoundError: All weights are zero (R02).
    """
    total = float(sums[WEIGHT])
    if not total > 0:
        fix = "look at the sites' data: none has an example to train on"
        raise RoundError("R02", "sum of weights", found=f"{total}", want="above 0", fix=fix)
    return {name: value / total for name, value in sums.items() if name != WEIGHT}


def _parts(
    vector: NDArray[np.uint64], slots: Mapping[str, Slot]
) -> Iterator[tuple[str, NDArray[np.uint64]]]:
    start = 0
    for name in sorted(slots):
        end = start + slots[name].size
        yield name, vector[start:end]
        start = end


def _unfit(name: str, found: str, want: str) -> PrivacyError:
    fix = "sum values of the declared form; scale large ones down, or take fewer fraction_bits"
    return PrivacyError("P55", f"{name} of a secure sum", found=found, want=want, fix=fix)

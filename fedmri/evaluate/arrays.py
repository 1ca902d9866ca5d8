"""What all estimators say of arrays: their types, and that they must fit each other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import UsageError

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]
Labels = Sequence[Hashable] | NDArray[Any]
"""A name for each patient, such as the site."""


def unfit(what: str, found: str, want: str) -> UsageError:
    """Return the error of arrays that cannot be evaluated (U80)."""
    return UsageError("U80", what, found=found, want=want, fix="pass arrays of the same patients")


def require_same_length(**arrays: Sequence[Any] | NDArray[Any]) -> int:
    """Return the common length of arrays.

    Raises:
        UsageError: They differ in length, or are empty (U80).
    """
    lengths = {name: len(values) for name, values in arrays.items()}
    n = next(iter(lengths.values()))
    if n == 0 or len(set(lengths.values())) > 1:
        found = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise unfit("lengths of arrays", found, "one length above 0")
    return n


def codes_of(labels: Labels) -> tuple[list[Any], Indices]:
    """Return the distinct labels in order, and the place of each patient's among them."""
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    return names.tolist(), np.asarray(codes, dtype=np.intp)

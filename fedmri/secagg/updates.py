"""A site's update as what a secure sum is over, and the weighted mean that comes of it.

Only entries of floating point are summed. Whole numbers (the batch count of batch norm) cannot be
averaged; they stay as the server has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmri.round import ExtraForms
from fedmri.secagg.ring import Slot, weighted, weighted_mean, weighted_slots

Entries: TypeAlias = Mapping[str, NDArray[Any]]
"""Shared entries of a model, by name."""


def empty_beside(forms: ExtraForms) -> dict[str, dict[str, NDArray[Any]]]:
    """Return zeros of the forms that a strategy declares beside a model."""
    return {
        record: {name: np.zeros(form.shape, np.float32) for name, form in of.items()}
        for record, of in forms.items()
    }


def with_beside(model: Entries, beside: Mapping[str, Entries]) -> Entries:
    """Return a model's entries with what a strategy sends beside it, a record and name each."""
    more = {f"{record}/{name}": v for record, of in beside.items() for name, v in of.items()}
    return {**model, **more}


def taken_apart(values: Entries) -> tuple[Entries, dict[str, dict[str, NDArray[Any]]]]:
    """Return the model's entries, and what was beside it by record: undo ``with_beside``."""
    model, beside = {}, dict[str, dict[str, NDArray[Any]]]()
    for name, value in values.items():
        record, slash, own = name.partition("/")
        if slash:
            beside.setdefault(record, {})[own] = value
        else:
            model[name] = value
    return model, beside


def update_slots(shared: Entries, fraction_bits: int) -> dict[str, Slot]:
    """Return what a secure sum of updates is over, given the shared entries of a model."""
    return weighted_slots({n: Slot(v.shape, fraction_bits) for n, v in _floating(shared).items()})


def weighted_update(trained: Entries, weight: float) -> dict[str, NDArray[np.float64]]:
    """Return what a site adds: its entries times its weight, and the weight."""
    return weighted(_floating(trained), weight)


def mean_update(sums: Mapping[str, NDArray[np.float64]], shared: Entries) -> Entries:
    """Return the sites' weighted mean as a model's shared entries.

    Args:
        sums: What the server found.
        shared: The entries that the sites were sent.

    Raises:
        RoundError: No site had an example (R02).
    """
    mean = weighted_mean(sums)
    return {n: np.asarray(mean[n]).astype(v.dtype) if n in mean else v for n, v in shared.items()}


def _floating(values: Entries) -> dict[str, NDArray[Any]]:
    return {name: value for name, value in values.items() if value.dtype.kind == "f"}

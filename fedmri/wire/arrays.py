"""Tensors as Flower's arrays and back. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord

from fedmri.errors import RoundError
from fedmri.round import Weights


class LazyArray(Array):
    """An array that turns into bytes only when somebody sends it over a network.

    In one process the receiver takes the tensor itself, so a round costs no serialisation.
    """

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        vars(self).update(
            _values=values,
            dtype=str(values.dtype),
            shape=tuple(values.shape),
            stype="numpy.ndarray",
        )

    @property
    def data(self) -> bytes:  # type: ignore[override]  # a field of the base is computed here
        """The array in ``.npy`` format."""
        buffer = BytesIO()
        np.save(buffer, vars(self)["_values"], allow_pickle=False)
        return buffer.getvalue()

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return the array itself, not a copy."""
        values: np.ndarray[Any, Any] = vars(self)["_values"]
        return values


# flwr writes the class name into the message and looks it up on the other side.
LazyArray.__qualname__ = "Array"


def pack(weights: Mapping[str, torch.Tensor]) -> ArrayRecord:
    """Return the weights as a record that shares their memory."""
    record = ArrayRecord()
    for name, value in weights.items():
        record[name] = LazyArray(value.detach().cpu().numpy())
    return record


def unpack(record: ArrayRecord) -> Weights:
    """Return the record's arrays as tensors, sharing memory where possible.

    Raises:
        RoundError: An entry is no array of numbers (R03).
    """
    return {name: _tensor(name, array) for name, array in record.items()}


def _tensor(name: str, array: Array) -> torch.Tensor:
    try:
        values = array.numpy()
        # asarray: a 0-d array must stay one
        return torch.from_numpy(np.asarray(values))
    except (TypeError, ValueError, EOFError, OSError) as error:
        fix = "update fedmri at that site; both sides must run the same version"
        found = f"{array.dtype} in {array.stype} format ({type(error).__name__})"
        want = "numbers in .npy format"
        raise RoundError("R03", f"entry {name}", found=found, want=want, fix=fix) from error


def as_arrays(weights: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Return tensors of a message as arrays that share their memory."""
    return {name: value.numpy() for name, value in weights.items()}


def as_tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Weights:
    """Return arrays as tensors, to be sent; those that cannot be written are copied."""
    return {n: torch.from_numpy(np.require(v, requirements="W")) for n, v in arrays.items()}


def n_bytes(weights: Mapping[str, torch.Tensor]) -> int:
    """Return the size of the weights as they travel, without headers."""
    return sum(value.numel() * value.element_size() for value in weights.values())

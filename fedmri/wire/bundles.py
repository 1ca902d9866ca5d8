"""Content made ready for a network, or for engines that move arrays through shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedmri.errors import RoundError, told
from fedmri.round import Weights
from fedmri.wire.arrays import LazyArray, pack, unpack

SAFETENSORS = "safetensors"
"""Form of a bundled record, and the name of its one array."""


def take_apart(content: RecordDict) -> tuple[dict[str, Any], Weights]:
    """Return content without its arrays, and the arrays by ``record/name``.

    For engines that move arrays through shared memory. ``put_together`` is the inverse.
    """
    skeleton: dict[str, Any] = {}
    arrays: Weights = {}
    for key, record in content.items():
        if isinstance(record, ArrayRecord):
            skeleton[key] = list(record)
            arrays |= {f"{key}/{name}": value for name, value in unpack(record).items()}
        else:
            skeleton[key] = (type(record).__name__, dict(record))
    return skeleton, arrays


def put_together(skeleton: Mapping[str, Any], arrays: Weights) -> RecordDict:
    """Return the content that ``take_apart`` took apart."""
    content = RecordDict()
    for key, value in skeleton.items():
        if isinstance(value, list):
            content[key] = pack({name: arrays[f"{key}/{name}"] for name in value})
        else:
            kind, entries = value
            content[key] = (
                MetricRecord(entries) if kind == "MetricRecord" else ConfigRecord(entries)
            )
    return content


def bundle(content: RecordDict) -> RecordDict:
    """Return content for a network: the arrays of each record as one, in safetensors form.

    Flower sends each array by calls of its own, over each of three hops: hundreds for a small
    network. ``unbundle`` is the inverse, to the bit.
    """
    bundled = RecordDict()
    for key, record in content.items():
        if not isinstance(record, ArrayRecord):
            bundled[key] = record
            continue
        data = save({name: np.asarray(array.numpy()) for name, array in record.items()})
        whole = ArrayRecord()
        whole[SAFETENSORS] = Array("uint8", (len(data),), SAFETENSORS, data)
        bundled[key] = whole
    return bundled


def unbundle(content: RecordDict) -> RecordDict:
    """Return the content that ``bundle`` made ready for a network.

    Raises:
        RoundError: A record is no such thing (R03).
    """
    plain = RecordDict()
    for key, record in content.items():
        plain[key] = _opened(key, record) if isinstance(record, ArrayRecord) else record
    return plain


def _opened(key: str, record: ArrayRecord) -> ArrayRecord:
    fix = "update fedmri at that site; both sides must run the same version"
    want = "one array in safetensors form"
    what = f"record {key}"
    if list(record) != [SAFETENSORS] or record[SAFETENSORS].stype != SAFETENSORS:
        raise RoundError("R03", what, found=f"{len(record)} others", want=want, fix=fix)
    opened = ArrayRecord()
    try:
        values = load(record[SAFETENSORS].data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        found = told(error)
        raise RoundError("R03", what, found=found, want=want, fix=fix) from error
    for name, value in values.items():
        opened[name] = LazyArray(value)
    return opened

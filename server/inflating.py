"""Answers are looked at before Flower puts them together: a small one may come to any size.

An array names its pieces by their places, and a record its arrays; either may name one piece a
million times. Flower copies each time, before anything of ours sees the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_head_values_from_object_content,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid import http_grid

from fedmri.plan import Plan
from fedmri.round import Weights

SLACK = 32 << 20
"""Bytes of an answer besides arrays of the size of the model: counts, metrics, headers."""
COPIES = 16
"""How often an answer may hold as much as the model: a strategy's extras, masks of 64 bits."""


def bound_answers(plan: Plan, model: Weights) -> None:
    """Refuse, from now on in this process, answers of more bytes than the plan's can have.

    Flower's own grid is changed for it: there is no other door before its copies are made.
    """
    model_bytes = sum(value.numel() * value.element_size() for value in model.values())
    table = 4 * 8 * len(plan.harmonize.table.features) ** 2  # a covariance, in limbs
    most = SLACK + COPIES * model_bytes + table

    def inflated(object_id: str, contents: dict[str, bytes], **named: Any) -> InflatableObject:
        refuse_swollen(object_id, contents, most)
        return inflate_object_from_contents(object_id, contents, **named)

    vars(http_grid)["inflate_object_from_contents"] = inflated


def refuse_swollen(object_id: str, contents: Mapping[str, bytes], most: int) -> None:
    """Refuse an object that comes to more bytes than it may, from its parts as they arrived.

    Raises:
        ValueError: It does, or its parts are none.
    """
    found = _size(object_id, contents, {}, most)
    if found > most:
        raise ValueError(f"an answer of {found:,} bytes, where {most:,} are the most")


def _size(object_id: str, contents: Mapping[str, bytes], known: dict[str, int], most: int) -> int:
    """Return the bytes of an object once it is put together; each part is looked at once."""
    if object_id in known:
        return known[object_id]
    known[object_id] = most + 1  # an object that holds itself has no size
    content = contents[object_id]
    kind, children, _ = get_object_head_values_from_object_content(content)
    if kind == Array.__qualname__:
        places = json.loads(get_object_body(content, Array))["arraychunk_ids"]
        parts = [children[place] for place in places]
    elif kind == ArrayRecord.__qualname__:
        parts = list(json.loads(get_object_body(content, ArrayRecord)).values())
    elif kind == RecordDict.__qualname__:
        parts = list(json.loads(get_object_body(content, RecordDict)).values())
    else:
        parts = children
    known[object_id] = len(content) + sum(_size(part, contents, known, most) for part in parts)
    return known[object_id]

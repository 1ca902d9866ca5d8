"""What arrived is looked at before Flower puts it together: a small message may come to any size.

An array names its pieces by their places, and a record its arrays; either may name one piece a
million times. Flower copies each time, before anything of ours sees the message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_object_body,
    get_object_head_values_from_object_content,
)

SLACK = 32 << 20
"""Bytes of a message besides arrays of the size of the model: counts, metrics, headers."""
COPIES = 16
"""How often a message may hold as much as the model: a strategy's extras, masks of 64 bits."""


def refuse_swollen(object_id: str, contents: Mapping[str, bytes], most: int) -> None:
    """Refuse an object that comes to more bytes than it may, from its parts as they arrived.

    Raises:
        ValueError: It does, or its parts are none.
    """
    found = _size(object_id, contents, {}, most)
    if found > most:
        raise ValueError(f"a message of {found:,} bytes, where {most:,} are the most")


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

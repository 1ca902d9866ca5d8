"""Digests of what a site is asked and of what it sends: by them the same is told from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch

from fedmri.round import Weights


def order_digest(site: str, plan: str, round_index: int, received: str) -> str:
    """Return the SHA-256 of all that decides what a site trains, or scores, in a round.

    Args:
        site: Its name.
        plan: The plan as JSON.
        round_index: The round.
        received: Digest of the arrays of the order, see ``update_digest``.
    """
    return hashlib.sha256(repr((site, plan, round_index, received)).encode()).hexdigest()


def update_digest(arrays: Weights, extra: Mapping[str, Weights]) -> str:
    """Return the SHA-256 of arrays that a site received, or is about to send."""
    total = hashlib.sha256()
    _add(total, {"": arrays, **extra})
    return total.hexdigest()


def _add(total: hashlib._Hash, records: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    for record in sorted(records):
        for name in sorted(records[record]):
            value = np.ascontiguousarray(records[record][name].detach().cpu().numpy())
            total.update(repr((record, name, str(value.dtype), value.shape)).encode())
            total.update(value.reshape(-1).view(np.uint8).data)

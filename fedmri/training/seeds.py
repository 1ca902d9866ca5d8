"""Seeds of purposes, derived from the seed of an experiment."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *labels: str | int) -> int:
    """Return a seed for a purpose: draws of one purpose say nothing about another's.

    Args:
        seed: Seed that it is derived from.
        labels: What it is for, such as ``"epoch", 3``.

    Returns:
        A number below ``2**63``.
    """
    text = "/".join(str(part) for part in (seed, *labels))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1

"""Secrets in shares: so many of them give the secret, and one fewer says nothing about it.

Source:
    Shamir 1979, How to share a secret, doi:10.1145/359168.359176.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

Draw: TypeAlias = Callable[[int], bytes]
"""Returns so many random bytes; ``secrets.token_bytes`` but in tests."""

N_SECRET, N_SHARE = 32, 33
"""Bytes of a secret and of a share."""

PRIME = 2**256 + 297
"""The smallest prime above every secret of 32 bytes."""


def split(secret: bytes, points: Collection[int], threshold: int, draw: Draw) -> dict[int, bytes]:
    """Return a share for each point, of which any ``threshold`` give the secret.

    Args:
        secret: 32 bytes.
        points: Different numbers from 1 on: the places of the shares' holders.
        threshold: Shares that are needed.
        draw: Source of random bytes.
    """
    # 16 bytes more than the prime has make the remainder even to 2^-128
    drawn = [int.from_bytes(draw(N_SHARE + 16)) % PRIME for _ in range(threshold - 1)]
    coefficients = [int.from_bytes(secret), *drawn]
    return {point: _at(coefficients, point).to_bytes(N_SHARE) for point in points}


def combine(shares: Mapping[int, bytes]) -> bytes | None:
    """Return the secret of at least as many shares as its threshold.

    None, or another secret than the one that was split, where a share was changed or too few are
    given: hold the result against a commitment.

    Args:
        shares: Shares by point.
    """
    secret = 0
    for own, share in shares.items():
        above, below = 1, 1
        for other in shares:
            if other != own:
                above, below = above * other % PRIME, below * (other - own) % PRIME
        secret += int.from_bytes(share) * above * pow(below, -1, PRIME)
    secret %= PRIME
    return secret.to_bytes(N_SECRET) if secret < 1 << 8 * N_SECRET else None


def _at(coefficients: list[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value

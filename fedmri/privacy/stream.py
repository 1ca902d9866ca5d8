"""Random numbers that nobody without the key can guess, and that the key gives again.

Noise that the server can draw again protects nobody, and torch's generator on the CPU keeps 32 bits
of its seed: all of them can be tried. ChaCha20 has no such shortcut. The same key gives the same
numbers, so that a round which is trained again after a crash sends the very bits that it sent.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def key_for(secret: bytes, *labels: str | int) -> bytes:
    """Return the key of a purpose, 32 bytes, by HMAC-SHA-256.

    Args:
        secret: The site's own, never sent (a simulation takes what it likes).
        labels: What it is for. The digest of the order must be among them: two updates with the
            same noise and other weights show their difference without any.
    """
    return hmac.digest(secret, repr(labels).encode(), hashlib.sha256)


MOST_BYTES = 2**38
"""Of one nonce: ChaCha20 counts 2^32 blocks of 64 bytes, a few hundred steps of a huge network."""


class Noise(Protocol):
    """Where normal numbers come from."""

    def normal(self, n: int) -> Floats:
        """Return standard normal numbers, shape ``(n,)``."""
        ...


class Stream:
    """Numbers of one key, one after another, as many as are wanted.

    Args:
        key: 32 bytes, for one round of one site and nothing else.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._n_begun = 0
        self._begin()

    def uniform(self, n: int) -> Floats:
        """Return ``n`` numbers above 0 and below 1, on a grid of ``2**-53``."""
        found = (np.frombuffer(self._take(8 * n), dtype="<u8") >> np.uint64(12)).astype(np.float64)
        found += 0.5
        found *= 2.0**-52
        return found

    def signs(self, n: int) -> Floats:
        """Return ``n`` times 1 or -1, each as likely, of a bit each."""
        bits = np.unpackbits(np.frombuffer(self._take(-(-n // 8)), dtype=np.uint8), count=n)
        return 1.0 - 2.0 * bits.astype(np.float64)

    def _take(self, n_bytes: int) -> bytes:
        if n_bytes > self._n_left:
            self._begin()
        self._n_left -= n_bytes
        return self._cipher.update(bytes(n_bytes))

    def _begin(self) -> None:
        nonce = bytes(4) + self._n_begun.to_bytes(12)  # the first four bytes are the counter
        self._cipher = Cipher(algorithms.ChaCha20(self._key, nonce), None).encryptor()
        self._n_begun, self._n_left = self._n_begun + 1, MOST_BYTES

    def normal(self, n: int) -> Floats:
        """Return ``n`` standard normal numbers (Box and Muller 1958, 10.1214/aoms/1177706645)."""
        half = -(-n // 2)
        radius, angle = self.uniform(half), self.uniform(half)
        np.log(radius, out=radius)  # in place: fresh memory costs more than the arithmetic
        radius *= -2
        np.sqrt(radius, out=radius)
        angle *= 2 * np.pi
        turn, found = torch.from_numpy(angle), np.empty(2 * half)
        np.multiply(radius, turn.cos().numpy(), out=found[:half])
        np.multiply(radius, turn.sin_().numpy(), out=found[half:])
        return found[:n]

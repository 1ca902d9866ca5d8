"""Keys that two sites alone know, and the masks and boxes that are made of them.

All of it is the ``cryptography`` package: X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), AES-256 in
counter mode and with GCM (NIST SP 800-38A and 38D), ECDSA on P-384 (FIPS 186-5).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedmri.errors import PrivacyError
from fedmri.secagg.ring import BLOCK

N_KEY, N_HALF = 32, 48
"""Bytes of a key of X25519 or AES, and of either half of a signature on P-384."""

ECDSA = ec.ECDSA(hashes.SHA384())


def public_half(secret: bytes) -> bytes:
    """Return the X25519 public key of a secret of 32 bytes."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret: bytes, public_key: bytes, context: bytes, purpose: str) -> bytes:
    """Return the key of 32 bytes that only the owners of two X25519 keys can work out.

    Args:
        secret: Secret half of one.
        public_key: Public half of the other.
        context: Digest of what the key is for; another context gives another key.
        purpose: Use of the key within the context.

    Raises:
        PrivacyError: The public key is one that no honest party has (P52).
    """
    try:
        other = X25519PublicKey.from_public_bytes(public_key)
        shared = X25519PrivateKey.from_private_bytes(secret).exchange(other)
    except ValueError as error:
        fix = "ask the coordinator which site sent it; it runs another program or attacks"
        want = "a key of X25519 that is not of low order"
        found = f"one that is ({error})"
        raise PrivacyError("P52", "key of a site", found=found, want=want, fix=fix) from error
    return derive(shared, context, purpose)


def derive(secret: bytes, context: bytes, purpose: str) -> bytes:
    """Return a key of 32 bytes from a secret, by HKDF-SHA256."""
    return HKDF(hashes.SHA256(), N_KEY, salt=context, info=purpose.encode()).derive(secret)


def add_masks(vector: NDArray[np.uint64], masks: Iterable[tuple[bytes, int]]) -> None:
    """Add or subtract masks modulo 2^64, in place, a block after the other.

    A mask is the keystream of AES-256 in counter mode from zero, read as little-endian words. Its
    key must be used for one mask alone.

    Args:
        vector: What is masked, shape ``(n,)``.
        masks: Keys of 32 bytes, each with 1 (add) or -1 (subtract).
    """
    streams = [(Cipher(AES256(key), CTR(bytes(16))).encryptor(), sign) for key, sign in masks]
    zeros = memoryview(bytes(8 * BLOCK))
    words = np.empty(BLOCK + 2, dtype="<u8")  # the cipher wants room for one block of its own more
    room = words.view(np.uint8).data
    for start in range(0, vector.size, BLOCK):
        block = vector[start : start + BLOCK]
        for stream, sign in streams:
            stream.update_into(zeros[: 8 * block.size], room)
            combine = np.add if sign > 0 else np.subtract
            combine(block, words[: block.size], out=block)


def sign(key: ec.EllipticCurvePrivateKey, text: bytes) -> bytes:
    """Return the ECDSA-SHA384 signature of a text as 96 bytes, always."""
    halves = utils.decode_dss_signature(key.sign(text, ECDSA))
    return b"".join(half.to_bytes(N_HALF) for half in halves)


def is_signed(public_key: str, signature: bytes, text: bytes) -> bool:
    """Tell whether the owner of an EC P-384 key in OpenSSH form signed a text."""
    halves = (int.from_bytes(half) for half in (signature[:N_HALF], signature[N_HALF:]))
    try:
        key = serialization.load_ssh_public_key(public_key.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(utils.encode_dss_signature(*halves), text, ECDSA)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def ssh_text(key: ec.EllipticCurvePublicKey) -> str:
    """Return a public key in OpenSSH form, without a comment."""
    form = serialization.PublicFormat.OpenSSH
    return key.public_bytes(serialization.Encoding.OpenSSH, form).decode()

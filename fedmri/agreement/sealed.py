"""Letters that one party signs and one party can open: what carries them reads nothing in them.

A letter is encrypted to the receiver's P-384 key by a key pair that is made for it alone: ECDH,
HKDF with SHA-256, ChaCha20-Poly1305. The signature lies inside, over the receiver's key too, so
that nobody can open a letter and seal it again for somebody else. Lengths and times stay visible.

Source:
    RFC 5869 (HKDF), RFC 8439 (ChaCha20-Poly1305); sign-then-encrypt with names: Davis 2001.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedmri.errors import NetworkError
from fedmri.machine.files import write_whole

MAGIC = b"fedmri letter 1\n"
"""First bytes of a letter; they go before the signed text, too."""
CURVE = ec.SECP384R1()
N_POINT, N_LENGTH = 97, 2
"""Bytes of a point of the curve, uncompressed; of the length of the signature."""
NONCE = bytes(12)
"""A key seals one letter and no other: its nonce need not differ."""

SETTLED_S = 30.0
"""Age from which a file is taken for whole: a copy is not there at once."""
ORDERS, ANSWERS, LETTER = "orders", "answers", ".letter"
"""Folders of a mailbox, and the ending of its files."""

READABLE, OWNER_WRITES, ALL_WRITE = 0o644, 0o755, 0o1777
"""Rights of a letter and its folder: each party has a user of its own, and perhaps a strict umask.
Where all write, nobody can take away what others wrote."""

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], None]
"""Takes a signature and a text; raises InvalidSignature."""


def seal(content: bytes, receiver: ec.EllipticCurvePublicKey, sign: Sign) -> bytes:
    """Return a letter that the receiver alone can open.

    Args:
        content: What it says.
        receiver: P-384 key.
        sign: Signs a text as the sender.
    """
    own = ec.generate_private_key(CURVE)
    point = _point(own.public_key())
    signature = sign(_signed(point, receiver, content))
    inner = len(signature).to_bytes(N_LENGTH, "big") + signature + content
    key = _key(own.exchange(ec.ECDH(), receiver), point, receiver)
    return MAGIC + point + ChaCha20Poly1305(key).encrypt(NONCE, inner, MAGIC + point)


def unseal(letter: bytes, receiver: ec.EllipticCurvePrivateKey, verify: Verify) -> bytes:
    """Return what a letter says, once it is known who sent it.

    Args:
        letter: All bytes of it.
        receiver: The key that it was sealed for.
        verify: Refuses the signature of anybody but the sender.

    Raises:
        NetworkError: It is no letter, was changed, is for another, or is not the sender's (N40).
    """
    start = len(MAGIC) + N_POINT
    head, point = letter[:start], letter[len(MAGIC) : start]
    if not letter.startswith(MAGIC) or len(head) < start:
        raise _unopened("bytes that are no letter")
    try:
        sender = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, point)
        key = _key(receiver.exchange(ec.ECDH(), sender), point, receiver.public_key())
        inner = ChaCha20Poly1305(key).decrypt(NONCE, letter[start:], head)
    except (InvalidTag, ValueError):
        raise _unopened("one that was changed, or is for another key") from None
    n = int.from_bytes(inner[:N_LENGTH], "big")
    signature, content = inner[N_LENGTH : N_LENGTH + n], inner[N_LENGTH + n :]
    try:
        verify(signature, _signed(point, receiver.public_key(), content))
    except InvalidSignature:
        raise _unopened("the signature of somebody else") from None
    return content


def put_aside(file: Path) -> bool:
    """Rename a letter that is none, so that it is not looked at again; tell whether it was.

    One that was changed a moment ago may be on its way still, and stays.
    """
    with suppress(OSError):  # of a folder that the other party owns: it stays, and is none
        if time.time() - file.stat().st_mtime >= SETTLED_S:
            file.replace(file.with_suffix(".refused"))
            return True
    return False


def put_letter(file: Path, letter: bytes) -> None:
    """Write a letter that its carrier and receiver may read, whatever their users: it is sealed.

    Raises:
        OSError: The system refuses it.
    """

    def fill(out: BinaryIO) -> None:
        with suppress(OSError):  # of a share that knows no rights
            os.fchmod(out.fileno(), READABLE)
        out.write(letter)

    write_whole(file, fill)


def take_away(file: Path) -> None:
    """Remove a letter, and what is left of one whose writer was killed, where that is allowed."""
    for one in (file, *file.parent.glob(f".{file.name}.*.part")):
        with suppress(OSError):
            one.unlink()


def make_box(folder: Path, rights: int = OWNER_WRITES) -> None:
    """Make a folder of letters, and those above it; one that is there keeps its rights.

    Raises:
        OSError: The system refuses it.
    """
    if folder.is_dir():
        return
    make_box(folder.parent)
    folder.mkdir(exist_ok=True)
    with suppress(OSError):
        folder.chmod(rights)


def require_writable(mailbox: Path) -> None:
    """Make the folder of answers; raise OSError where no answer can be written there."""
    make_box(mailbox / ANSWERS, ALL_WRITE)
    with tempfile.TemporaryFile(dir=mailbox / ANSWERS):
        return


def address_of(key: ec.EllipticCurvePublicKey) -> str:
    """Return the name of the receiver's folder: whoever lacks the key cannot tell whose it is."""
    return hashlib.sha256(MAGIC + _point(key)).hexdigest()[:32]


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    form = serialization.PublicFormat.UncompressedPoint
    return key.public_bytes(serialization.Encoding.X962, form)


def _signed(point: bytes, receiver: ec.EllipticCurvePublicKey, content: bytes) -> bytes:
    return MAGIC + point + _point(receiver) + content


def _key(shared: bytes, point: bytes, receiver: ec.EllipticCurvePublicKey) -> bytes:
    info = MAGIC + point + _point(receiver)
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared)


def _unopened(found: str) -> NetworkError:
    fix = "have it carried again; if it comes the same, ask its sender by telephone"
    want = "a letter of the other party for this one, as it was sent"
    return NetworkError("N40", "letter of the mailbox", found=found, want=want, fix=fix)

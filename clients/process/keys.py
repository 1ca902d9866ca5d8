"""A site's key pair: made where it is used, so that its private half never travels."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedmri.errors import NetworkError, told
from fedmri.machine.files import make_private_folder, write_private, write_whole

CURVE = ec.SECP384R1.name
SSH = serialization.PublicFormat.OpenSSH


def make_key_pair(key: Path, public_key: Path) -> str:
    """Write a new EC P-384 key pair in OpenSSH form and return the public half.

    Raises:
        FileExistsError: There is a key: it is never written over.
    """
    private = ec.generate_private_key(ec.SECP384R1())
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = _public_text(private)
    make_private_folder(key.parent)
    write_private(key, secret)
    write_whole(public_key, f"{public}\n")
    return public


def public_half(key: Path) -> str:
    """Return the public half of a private key file, in OpenSSH form without a comment.

    Raises:
        NetworkError: The file cannot be used, or others than its owner can read it (N06).
    """
    fix = f"restore {key} from a backup, or make a new folder with `fedmri client init`"
    what, want = f"key {key}", "an EC P-384 key in OpenSSH form"
    try:
        is_shared = key.stat().st_mode & 0o077
        private = serialization.load_ssh_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        found = told(error)
        raise NetworkError("N06", what, found=found, want=want, fix=fix) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != CURVE:
        raise NetworkError("N06", what, found=type(private).__name__, want=want, fix=fix)
    if is_shared:
        want, fix = "one that its owner alone can read", f"chmod 600 {key}"
        raise NetworkError("N06", what, found="a key that others can read", want=want, fix=fix)
    return _public_text(private)


def _public_text(private: ec.EllipticCurvePrivateKey) -> str:
    return private.public_key().public_bytes(serialization.Encoding.OpenSSH, SSH).decode()

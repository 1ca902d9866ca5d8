"""The consortium's own authority: it signs the server's certificates, and sites trust it alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedmri.agreement.consortium import is_ip
from fedmri.errors import NetworkError
from fedmri.machine.files import make_private_folder, write_private, write_whole
from fedmri.server.registry.home import ServerHome

CA_LIFE = timedelta(days=3652)
LEAF_LIFE = timedelta(days=365)
BACKDATED = timedelta(days=1)
"""Certificates begin this long ago: a site whose clock is late is told so, not shut out."""


@dataclass(frozen=True)
class DaysLeft:
    """Whole days until certificates expire; below zero they have expired."""

    server: int
    authority: int


def make_authority(home: ServerHome, names: Sequence[str]) -> None:
    """Write the authority, the server's first key and certificate; nothing is written over.

    Raises:
        FileExistsError: There is an authority.
    """
    make_private_folder(home.ca_key.parent)
    make_private_folder(home.tls_key.parent)
    ca_key, leaf_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    write_private(home.ca_key, _pem(ca_key))
    write_whole(home.ca_cert, _text(_authority_certificate(ca_key)))
    write_private(home.tls_key, _pem(leaf_key))
    renew(home, names)


def renew(home: ServerHome, names: Sequence[str], *, is_key_new: bool = False) -> None:
    """Replace the server's certificate: another year, for these names.

    Sites notice nothing, for they trust the authority. The running server takes the certificate up
    when it starts again.

    Args:
        home: The server's folder.
        names: DNS names and IP addresses.
        is_key_new: Whether the server gets another key as well.

    Raises:
        NetworkError: The authority or the server's key is missing or damaged (N05).
    """
    ca_key, ca = _load_key(home.ca_key), _load_certificate(home.ca_cert)
    key = ec.generate_private_key(ec.SECP384R1()) if is_key_new else _load_key(home.tls_key)
    certificate = _server_certificate(key.public_key(), names, ca, ca_key)
    if is_key_new:
        write_whole(home.tls_key, _pem(key).decode(), 0o600)
    write_whole(home.tls_cert, _text(certificate))


def days_left(home: ServerHome) -> DaysLeft:
    """Return how long the certificates last; raise NetworkError N05 where one is damaged."""
    now = datetime.now(UTC)
    server, authority = (
        (_load_certificate(path).not_valid_after_utc - now).days
        for path in (home.tls_cert, home.ca_cert)
    )
    return DaysLeft(server, authority)


def _authority_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedmri consortium authority")])
    now, public = datetime.now(UTC), key.public_key()
    return (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA384())
    )


def _server_certificate(
    public: ec.EllipticCurvePublicKey,
    names: Sequence[str],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedmri server")])
    now = datetime.now(UTC)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    return (
        x509.CertificateBuilder(ca.subject, name, public, x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + LEAF_LIFE, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, hashes.SHA384())
    )


def _general_name(name: str) -> x509.GeneralName:
    if is_ip(name):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path, type(error).__name__) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(path, type(key).__name__)
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path, type(error).__name__) from error


def _damaged(path: Path, found: str) -> NetworkError:
    fix = "restore the server's folder from the backup"
    want = "an elliptic key or its certificate, PEM"
    return NetworkError("N05", f"file {path}", found=found, want=want, fix=fix)

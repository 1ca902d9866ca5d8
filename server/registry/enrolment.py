"""Making a server's folder, and letting sites in and out of the consortium."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedmri.agreement.consortium import (
    Consortium,
    installed_version,
    is_ip,
    refuse_folder_in_use,
    refuse_site_name,
)
from fedmri.agreement.signed_plan import SignedPlan, sign_plan
from fedmri.errors import UsageError, require, told
from fedmri.machine.files import make_private_folder, write_private, write_whole
from fedmri.plan import Plan
from fedmri.server.registry.authority import make_authority
from fedmri.server.registry.home import EnrolledSite, ServerConfig, ServerHome

DNS_NAME = re.compile(r"(?=.{1,253}$)[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9-]+)*")
CURVE = ec.SECP384R1.name
PEM = serialization.Encoding.PEM
SETTINGS = """\
# Settings of this consortium's server. After a change, start the server again.

# DNS names and IP addresses in the server's certificate; sites dial the first. After a change:
# `fedmri server renew`, and send the sites their new enrolment files.
names: {names}

# Where the server listens to the sites: 0.0.0.0 is every IPv4 address, :: every IPv6 address of
# this machine. Only this port must be open, and only inward.
host: {host}
port: {port}

# A run that stops without a new checkpoint is started again this often before it counts as failed.
# max_attempts: 3
"""


def make_home(folder: Path, names: Sequence[str], port: int) -> ServerHome:
    """Make a server's folder: authority, certificate, key that signs plans, settings.

    Args:
        folder: A folder that is missing or empty.
        names: DNS names and IP addresses of the server; sites dial the first.
        port: Port that sites dial.

    Raises:
        UsageError: The folder holds something (U20).
        ConfigError: No name, or one that is none, or no port (C01).
    """
    host = "::" if any(":" in name for name in names[:1]) else "0.0.0.0"
    config = ServerConfig(tuple(dict.fromkeys(names)), host, port)
    are_names = all(is_ip(name) or DNS_NAME.fullmatch(name) for name in config.names)
    require(are_names, "names", config.names, "DNS names without a scheme or port, or IP addresses")
    refuse_folder_in_use(folder)
    home = ServerHome(folder)
    for path in (home.folder, home.state, home.runs, home.enrolments, home.logs):
        make_private_folder(path)
    make_authority(home, config.names)
    _make_signing_key(home)
    text = SETTINGS.format(
        names=json.dumps(config.names), host=json.dumps(config.host), port=config.port
    )
    write_whole(home.settings_file, text)
    return home


def enroll(
    home: ServerHome, name: str, key_text: str, max_examples: int = 0, max_subjects: int = 0
) -> Consortium:
    """Let a site in, and write the file that it joins with.

    Args:
        home: The server's folder.
        name: The site's name.
        key_text: What stands in the site's ``keys/site.pub``.
        max_examples: Examples of a round that the site declares; 0 for none declared.
        max_subjects: Patients that it declares; 0 for none declared.

    Raises:
        UsageError: The key is no public EC P-384 key or was enrolled before (U22), or the name
            cannot be used or is taken (U23).
        ConfigError: A number is negative (C01).
    """
    refuse_site_name(name)
    _require_limits(max_examples, max_subjects)
    key = _public_key(key_text)
    with _registry_of(home) as sites:
        if name.lower() in {other.lower() for other in sites}:  # not all disks tell case apart
            raise _name_is_taken(name, is_revoked=any(s.is_revoked for s in _named(sites, name)))
        owner = next((site for site in sites.values() if site.public_key == key), None)
        if owner:
            raise _key_is_taken(owner)
        today = datetime.now(UTC).date().isoformat()
        site = EnrolledSite(name, key, today, max_examples, max_subjects=max_subjects)
        consortium = _write_enrolment(home, site)
        home.write_sites([*sites.values(), site])
    return consortium


def limit(
    home: ServerHome, name: str, max_examples: int | None = None, max_subjects: int | None = None
) -> EnrolledSite:
    """Change what an enrolled site declared; a run that goes on heeds it at the next update.

    Args:
        home: The server's folder.
        name: The site's name.
        max_examples: Examples of a round; 0 for none declared, None leaves it as it is.
        max_subjects: Patients; 0 for none declared, None leaves it as it is.

    Raises:
        UsageError: No such site, or it was revoked (U23).
        ConfigError: A number is negative (C01).
    """
    _require_limits(max_examples or 0, max_subjects or 0)
    with _registry_of(home) as sites:
        site = _enrolled(sites, name)
        if site.is_revoked:
            fix = "see `fedmri server sites`"
            want = "a site that takes part"
            raise UsageError("U23", f"site {name}", found="revoked", want=want, fix=fix)
        examples = site.max_examples if max_examples is None else max_examples
        subjects = site.max_subjects if max_subjects is None else max_subjects
        sites[name] = replace(site, max_examples=examples, max_subjects=subjects)
        home.write_sites(sites.values())
        return sites[name]


def revoke(home: ServerHome, name: str) -> None:
    """Shut a site out for good; a running server does so within seconds.

    Raises:
        UsageError: No such site (U23).
    """
    with _registry_of(home) as sites:
        _ = _enrolled(sites, name)
        sites[name] = replace(sites[name], is_revoked=True)
        (home.enrolments / f"{name}.json").unlink(missing_ok=True)
        home.write_sites(sites.values())


def _require_limits(max_examples: int, max_subjects: int) -> None:
    require(max_examples >= 0, "max-examples", max_examples, "0 or more")
    require(max_subjects >= 0, "max-patients", max_subjects, "0 or more")


def _enrolled(sites: dict[str, EnrolledSite], name: str) -> EnrolledSite:
    if name not in sites:
        fix = "look at `fedmri server sites`"
        want = f"one of {', '.join(sites) or '(nobody is enrolled)'}"
        raise UsageError("U23", f"site {name}", found="no such site", want=want, fix=fix)
    return sites[name]


def sign_for(home: ServerHome, plan: Plan, members: Sequence[str]) -> SignedPlan:
    """Return a plan signed by the coordinator, with the sites' keys where it has secure sums.

    Args:
        home: The coordinator's folder.
        plan: What is signed.
        members: Sites that take part; empty takes all that are enrolled.

    Raises:
        PrivacyError: There are too few sites for secure sums (P50).
    """
    key = home.signing_key.read_bytes()
    if not plan.secagg.is_on:
        return sign_plan(plan, key)
    there = {name: site.public_key for name, site in home.sites().items() if not site.is_revoked}
    keys = {name: key for name, key in there.items() if not members or name in members}
    signed = sign_plan(plan, key, keys)
    signed.roll("").sum(0, {})
    return signed


def write_enrolments(home: ServerHome) -> None:
    """Write every site's enrolment again, as after a change of the address."""
    for site in home.sites().values():
        if not site.is_revoked:
            _write_enrolment(home, site)


def _make_signing_key(home: ServerHome) -> None:
    key = Ed25519PrivateKey.generate()
    secret = serialization.NoEncryption()
    write_private(
        home.signing_key, key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, secret)
    )
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    write_whole(home.verify_key, key.public_key().public_bytes(PEM, public).decode())


def _write_enrolment(home: ServerHome, site: EnrolledSite) -> Consortium:
    consortium = Consortium(
        site=site.name,
        address=home.config.address,
        ca=home.ca_cert.read_text(encoding="ascii"),
        coordinator=home.verify_key.read_text(encoding="ascii"),
        public_key=site.public_key,
        version=installed_version(),
    )
    write_whole(home.enrolments / f"{site.name}.json", consortium.to_json())
    return consortium


def _public_key(text: str) -> str:
    """Return a key in the one form that the registry holds: kind and bytes, no comment."""
    if "PRIVATE" in text:
        fix = "delete it, tell the site to make a new folder, and ask for its keys/site.pub"
        found = "a private key, which is a secret no more"
        raise UsageError("U22", "key", found=found, want="the public half", fix=fix)
    fix = "ask the site for keys/site.pub, which `fedmri client init` made"
    want = "one line that begins with ecdsa-sha2-nistp384"
    try:
        key = serialization.load_ssh_public_key(text.strip().encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        found = told(error)
        raise UsageError("U22", "key", found=found, want=want, fix=fix) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != CURVE:
        found = text.split(maxsplit=1)[0]
        raise UsageError("U22", "key", found=found, want=want, fix=fix)
    openssh = serialization.PublicFormat.OpenSSH
    return key.public_bytes(serialization.Encoding.OpenSSH, openssh).decode()


@contextmanager
def _registry_of(home: ServerHome) -> Iterator[dict[str, EnrolledSite]]:
    """Hold the registry, so that two commands at once do not undo each other."""
    _ = home.config  # in a folder that is not a server's, nothing is touched
    number = os.open(home.folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield home.sites()
    finally:
        os.close(number)


def _named(sites: dict[str, EnrolledSite], name: str) -> list[EnrolledSite]:
    return [site for site in sites.values() if site.name.lower() == name.lower()]


def _name_is_taken(name: str, *, is_revoked: bool) -> UsageError:
    found = "that of a site that was revoked" if is_revoked else "that of an enrolled site"
    fix = "choose another name"
    if not is_revoked:
        fix += f"; to change what that site declared, call `fedmri server limit {name}`"
    return UsageError("U23", f"name {name}", found=found, want="a name of its own", fix=fix)


def _key_is_taken(owner: EnrolledSite) -> UsageError:
    state = ", revoked" if owner.is_revoked else ""
    fix = "have each site make its own folder with `fedmri client init`"
    want = "a key of its own for each site"
    return UsageError("U22", "key", found=f"that of site {owner.name}{state}", want=want, fix=fix)

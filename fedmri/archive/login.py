"""How an archive knows us: from a private file or from the environment, and never shown."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]  # it ships no types

from fedmri.errors import NetworkError

ENVIRONMENT = "FEDMRI_DICOMWEB_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OTHERS = stat.S_IRWXG | stat.S_IRWXO
PORTS = {"https": 443, "http": 80}

Origin = tuple[str, str, int]
"""Scheme, host and port: who a secret may be told to."""


@dataclass(frozen=True)
class Login:
    """What one archive is told; nothing of it is printed.

    Attributes:
        url: The archive that it is for.
        user: Name, with ``password``.
        password: Of the user.
        token: Bearer token, instead of both.
        ca: File of the certificates that sign the archive's own; ``""`` takes the public ones.
    """

    url: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ca: str = ""


def login_for(
    url: str, files: Sequence[Path], environment: Mapping[str, str] = os.environ
) -> Login:
    """Return the login of an archive: from the first file that is for it, or the environment.

    A login is told to the archive of its own ``url`` and to no other.

    Args:
        url: Address of the archive's DICOMweb.
        files: YAML files of ``url``, ``user``, ``password``, ``token`` and ``ca``.
        environment: ``FEDMRI_DICOMWEB_URL`` and so on.

    Raises:
        NetworkError: The address cannot be used (N30), or a login cannot be (N31).
    """
    wanted = origin_of(url)
    names = [one.name for one in fields(Login)]
    given = {name: environment.get(f"{ENVIRONMENT}{name.upper()}", "") for name in names}
    logins = [_read(path, names) for path in files]
    if any(given.values()):
        logins.append(_login(given, f"{ENVIRONMENT}*"))
    own = [login for login in logins if origin_of(login.url) == wanted]
    return replace(own[0], url=url) if own else Login(url)


def origin_of(url: str) -> Origin:
    """Return whose address it is.

    Raises:
        NetworkError: It is not https, nor http on this very machine; or it holds a secret (N30).
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise _unusable("no address", url) from error
    host = parts.hostname or ""
    if parts.username is not None or parts.password is not None:
        raise _unusable("a user in the address", "")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise _unusable(f"{parts.scheme or 'no'} scheme", url)
    if not host or parts.query or parts.fragment:
        raise _unusable("more or less than an address", "")
    return parts.scheme, host, port


def _read(path: Path, names: Sequence[str]) -> Login:
    """Read a login; no message shows a value, for it may be a password."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & OTHERS:
            fix = f"chmod 600 {path}"
            raise _no_login(path, "a file that others can read", fix)
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise _no_login(path, f"a file that is not read ({type(error).__name__})") from None
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise _no_login(path, "something else than names with texts")
    if unknown := sorted(map(str, set(values) - set(names))):
        raise _no_login(path, f"an unknown name {unknown[0]}")
    return _login(values, path)


def _login(values: Mapping[str, str], place: Path | str) -> Login:
    login = Login(**{"url": "", **values})
    if not login.url:
        raise _no_login(place, "no url")
    if login.token and (login.user or login.password):
        raise _no_login(place, "a token beside a user")
    if login.ca and not Path(login.ca).is_file():
        raise _no_login(place, "no file at ca")
    return login


def _no_login(place: Path | str, found: str, fix: str = "") -> NetworkError:
    want = "url with user and password, or with token"
    fix = fix or "write each as NAME: 'TEXT' on its own line"
    return NetworkError("N31", f"login {place}", found=found, want=want, fix=fix)


def _unusable(found: str, url: str) -> NetworkError:
    what = f"address {url}".strip() + " of an archive"
    want = "https://HOST/PATH, or http on this machine alone"
    fix = "write the address of its DICOMweb, and put user and password into a file"
    return NetworkError("N30", what, found=found, want=want, fix=fix)

"""What a coordinator gives a site at its enrolment: where the server is and how to know it."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fedmri.errors import NetworkError, UsageError, told

SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Names of sites: they become folder names and label tables."""


@dataclass(frozen=True)
class Consortium:
    """The enrolment of one site. It holds no secret; whoever swaps it could pose as the server.

    Attributes:
        site: Name that the coordinator gave the site.
        address: Host and port that the site dials; an IPv6 host stands in brackets.
        ca: Certificate of the authority that signs the server's certificates, PEM.
        coordinator: Key that signs plans, Ed25519, PEM.
        public_key: Key that was enrolled, in OpenSSH form.
        version: The server's version of fedmri.
    """

    site: str
    address: str
    ca: str
    coordinator: str
    public_key: str
    version: str

    @property
    def host(self) -> str:
        """The name or address alone, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port that the site dials."""
        return int(self.address.rpartition(":")[2])

    @property
    def fingerprint(self) -> str:
        """Short form of what the site will trust, to be compared over the telephone."""
        digest = hashlib.sha256(f"{self.ca.strip()}\n{self.coordinator.strip()}".encode()).digest()
        text = base64.b32encode(digest[:15]).decode()
        return "-".join(text[i : i + 4] for i in range(0, len(text), 4))

    def to_json(self) -> str:
        """Return the text that ``read_consortium`` reads."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_consortium(path: Path) -> Consortium:
    """Return the enrolment of a file.

    Raises:
        NetworkError: It is not there or not complete (N04).
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        consortium = TypeAdapter(Consortium).validate_python(values)
        is_dialled = bool(consortium.host) and 0 < consortium.port < 65536
    except (OSError, ValueError, ValidationError) as error:
        found = told(error)
        raise _unusable(path, found) from error
    if not is_dialled or not SITE_NAME.fullmatch(consortium.site):
        raise _unusable(path, f"site {consortium.site!r} at {consortium.address!r}")
    return consortium


def refuse_site_name(name: str) -> None:
    """Raise the UsageError of a name that a site cannot have (U23)."""
    if not SITE_NAME.fullmatch(name):
        want = "1 to 63 letters, digits, - or _, with a letter or digit first"
        fix = "choose a short name such as hospital-a"
        raise UsageError("U23", "name of the site", found=repr(name), want=want, fix=fix)


def refuse_folder_in_use(folder: Path) -> None:
    """Raise the UsageError of a folder that holds something already (U20)."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        want, fix = "a folder that is missing or empty", "name another folder"
        raise UsageError("U20", f"folder {folder}", found="files in it", want=want, fix=fix)


def key_fingerprint(public_key: str) -> str:
    """Return the fingerprint of a key as OpenSSH shows it, to be compared over the telephone."""
    digest = hashlib.sha256(base64.b64decode(public_key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def is_ip(name: str) -> bool:
    """Tell whether a name is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def installed_version() -> str:
    """Return the version of fedmri that runs."""
    return version("fedmri")


def _unusable(path: Path, found: str) -> NetworkError:
    want = "the enrolment file that the coordinator's `fedmri server enroll` wrote"
    fix = "ask the coordinator for it, then `fedmri client join FILE`"
    return NetworkError("N04", f"enrolment {path}", found=found, want=want, fix=fix)

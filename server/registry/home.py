"""The coordinator's folder: where everything lies, and who is enrolled."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fedmri.agreement.consortium import is_ip
from fedmri.errors import UsageError, require, told
from fedmri.machine.files import write_whole
from fedmri.settings.file import read_home


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the server, ``server.yaml``.

    Attributes:
        names: DNS names and IP addresses that the certificate holds; sites dial the first.
        host: Address on which the server listens to the sites.
        port: Port of the same.
        max_attempts: How often a run is started again without a new checkpoint between.
    """

    names: tuple[str, ...]
    host: str = "0.0.0.0"  # sites come from other networks
    port: int = 9443
    max_attempts: int = 3

    def __post_init__(self) -> None:
        require(bool(self.names) and all(self.names), "names", self.names, "one name or more")
        require(0 < self.port < 65536, "port", self.port, "1 to 65535")
        require(self.max_attempts >= 1, "max_attempts", self.max_attempts, "1 or more")

    @property
    def address(self) -> str:
        """What sites dial: the first name and the port."""
        first = self.names[0]
        return f"[{first}]:{self.port}" if is_ip(first) and ":" in first else f"{first}:{self.port}"


@dataclass(frozen=True)
class EnrolledSite:
    """One line of the registry.

    Attributes:
        name: The site's name.
        public_key: EC P-384 key in OpenSSH form, without a comment.
        enrolled: Date, ISO 8601.
        max_examples: Examples of a round (slices in 2D, scans in 3D) that the site declared; 0
            where it declared none.
        is_revoked: Whether the site was shut out. Its name and key are never given again.
        max_subjects: Patients that the site declared; 0 where it declared none.
    """

    name: str
    public_key: str
    enrolled: str
    max_examples: int = 0
    is_revoked: bool = False
    max_subjects: int = 0


@dataclass(frozen=True)
class Registry:
    """Everything in ``sites.json``."""

    sites: tuple[EnrolledSite, ...]


class ServerHome:
    """A folder that ``fedmri server init`` made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.settings_file = self.folder / "server.yaml"
        self.ca_cert, self.ca_key = self.folder / "ca/ca.pem", self.folder / "ca/ca.key"
        self.tls_cert, self.tls_key = self.folder / "tls/server.pem", self.folder / "tls/server.key"
        self.signing_key = self.folder / "coordinator.key"
        self.verify_key = self.folder / "coordinator.pub"
        self.registry = self.folder / "sites.json"
        self.enrolments = self.folder / "enrolments"
        self.state = self.folder / "state"
        self.database = self.state / "flwr.db"
        self.runs = self.folder / "runs"
        self.logs = self.folder / "logs"

    @cached_property
    def config(self) -> ServerConfig:
        """The settings, read once.

        Raises:
            UsageError: The folder is not a server's (U21).
            ConfigError: A setting cannot be used (C01, C02, C04).
        """
        return read_home(self.settings_file, ServerConfig, "server", "server")

    def sites(self) -> dict[str, EnrolledSite]:
        """Return the enrolled sites by name, revoked ones among them.

        Raises:
            UsageError: The registry is broken (U24).
        """
        if not self.registry.exists():
            return {}
        try:
            registry = TypeAdapter(Registry).validate_json(self.registry.read_bytes())
        except (OSError, ValidationError) as error:
            found = told(error)
            fix = "restore it from the backup, or enrol the sites again"
            what, want = f"registry {self.registry}", "the list of enrolled sites"
            raise UsageError("U24", what, found=found, want=want, fix=fix) from error
        return {site.name: site for site in registry.sites}

    def write_sites(self, sites: Iterable[EnrolledSite]) -> None:
        """Replace the registry; whoever reads meanwhile sees the old one or the new one."""
        registry = Registry(tuple(sorted(sites, key=lambda site: site.name)))
        write_whole(self.registry, json.dumps(asdict(registry), indent=2) + "\n")

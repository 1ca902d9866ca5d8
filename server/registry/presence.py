"""Who is enrolled and who is there: the registry, and what the server process last saw."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedmri.errors import NetworkError
from fedmri.machine import files
from fedmri.server.registry.home import ServerHome

STALE_S = 30.0
"""A server process that wrote nothing for so long is not running: nobody knows who is online."""


LOCK = "lock"


def hold(home: ServerHome) -> int:
    """Return the lock that says that a server runs in this folder; it ends with its process.

    Raises:
        NetworkError: Another server runs here (N21).
    """
    try:
        return files.hold(home.state / LOCK)
    except BlockingIOError as error:
        fix, want = "end the other one, or use another folder", "no other server in this folder"
        raise NetworkError("N21", str(home.folder), found="one", want=want, fix=fix) from error


def is_served(home: ServerHome) -> bool:
    """Tell whether a server process lives in this folder, however long it has said nothing."""
    try:
        return files.is_held(home.state / LOCK)
    except OSError:
        return True  # of a version without the lock: its last word counts


@dataclass(frozen=True)
class Presence:
    """Who was seen, by site.

    Attributes:
        is_online: As it was when the server process last wrote.
        last_seen: ISO time in UTC; a site that was never seen is missing.
        is_server_running: Whether the process writes: if not, nobody knows who is online.
    """

    is_online: Mapping[str, bool] = field(default_factory=dict)
    last_seen: Mapping[str, str] = field(default_factory=dict)
    is_server_running: bool = False

    def of(self, site: str) -> tuple[bool | None, str | None]:
        """Return whether a site is online, None where nobody knows, and when it was last seen."""
        is_online = self.is_online.get(site, False) if self.is_server_running else None
        return is_online, self.last_seen.get(site)


@dataclass(frozen=True)
class Member:
    """A site of the registry, and whether it is there."""

    site: str
    enrolled: str
    is_revoked: bool
    is_online: bool | None
    last_seen: str | None


def read_presence(home: ServerHome) -> Presence:
    """Return who was seen, as the server process last wrote it; nobody where it wrote nothing."""
    path = home.state / "sites-seen.json"
    try:
        is_running = time.time() - path.stat().st_mtime <= STALE_S and is_served(home)
        seen = json.loads(path.read_text(encoding="utf-8"))
        online = {str(site): bool(entry["online"]) for site, entry in seen.items()}
        times = {str(site): str(e["last_seen"]) for site, e in seen.items() if e.get("last_seen")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Presence()  # who is there is news, not a record: no view fails for want of it
    return Presence(online, times, is_running)


def members(home: ServerHome, presence: Presence) -> tuple[Member, ...]:
    """Return every site of the registry, in order."""
    return tuple(
        Member(name, entry.enrolled, entry.is_revoked, *presence.of(name))
        for name, entry in sorted(home.sites().items())
    )

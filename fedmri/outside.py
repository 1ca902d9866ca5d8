"""Where a part comes from that is not fedmri's own: an installed distribution, by its files' hash.

A plan names it, so that a hospital runs the very code that it installed and looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedmri.errors import ConfigError


@dataclass(frozen=True)
class Origin:
    """A distribution that holds a part.

    Attributes:
        distribution: Its name and version, as in ``atlas-parts==1.2``.
        sha256: Over names and contents of its files.
    """

    distribution: str
    sha256: str


OF_THIS_PROCESS = Origin("a class of one process", "")
"""Of a part that is not installed: no other process can run it, and none takes it for another."""


def origin_of(point: EntryPoint) -> Origin:
    """Return the distribution of an entry point."""
    found = point.dist
    if found is None:
        fix = "install it with pip"
        what = f"part {point.name}"
        raise ConfigError("C40", what, found="no distribution", want="one", fix=fix)
    return _origin(found.name, found.version, point.module.partition(".")[0])


@lru_cache(maxsize=32)
def _origin(name: str, version: str, package: str) -> Origin:
    files = {**_installed(distribution(name)), **_imported(package)}
    total = hashlib.sha256()
    for file, path in sorted(files.items()):
        total.update(f"{file} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return Origin(f"{name}=={version}", total.hexdigest())


def forget_hashes() -> None:
    """Look at the files anew: what is installed may have changed while the process runs."""
    _origin.cache_clear()


def _installed(found: Distribution) -> dict[str, Path]:
    """Return the files that a distribution installed, but for what an installer writes anew."""
    paths = {str(file): Path(str(found.locate_file(file))) for file in found.files or ()}
    return {
        file: path
        for file, path in paths.items()
        if path.is_file() and _is_code(path) and not file.startswith(("..", "__editable__"))
    }


def _imported(package: str) -> dict[str, Path]:
    """Return the files of a package as Python finds it: an editable install lists none of them."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return {}
    top = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return {top.name: top}
    own = (path for path in top.parent.rglob("*") if path.is_file() and _is_code(path))
    return {path.relative_to(top.parent.parent).as_posix(): path for path in own}


def _is_code(path: Path) -> bool:
    """Tell whether a file is more than what Python or an installer writes on each machine."""
    is_written_here = path.suffix == ".pyc" or path.parent.suffix in (".dist-info", ".egg-info")
    return not is_written_here


def refuse_other(what: str, named: Mapping[str, Any] | None, here: Origin | None) -> None:
    """Refuse a part whose distribution is not the one that a plan names.

    Args:
        what: The part, for the message.
        named: What the plan says of its origin; None where it says nothing, as settings may.
        here: Where the part of that name comes from on this machine; None for fedmri's own.

    Raises:
        ConfigError: It is another one, or altered (C41).
    """
    if named is None:
        return
    want = Origin(str(named.get("distribution")), str(named.get("sha256")))
    if here != want:
        found = "none installed" if here is None else _told(here)
        fix = "ask the coordinator for the distribution, look at it, and install it yourself"
        raise ConfigError("C41", what, found=found, want=_told(want), fix=fix)


def _told(origin: Origin) -> str:
    return f"{origin.distribution} with SHA-256 {origin.sha256[:12]}"

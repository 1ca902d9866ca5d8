"""Where this machine keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(path: str = "") -> Path:
    """Return a folder of things that can be remade: the named one, or where the system has such."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(path) if path else Path(base) / "fedmri"


def arithmetic_file(path: str = "") -> Path:
    """Return the file of what networks compute with on this machine, in ``cache_folder(path)``."""
    return cache_folder(path) / "arithmetic.json"

"""Files of a party's own folder: secrets are private from the first byte on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def make_private_folder(folder: Path) -> None:
    """Make a folder that its owner alone may enter; one that is there stays as it is."""
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a secret that was never readable by others.

    Raises:
        FileExistsError: There is a file: a key is never written over.
    """
    _write(path, content, PRIVATE_FILE)
    _sync(path.parent)


def write_whole(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write or replace a file; whoever reads meanwhile sees the old or the new, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    _write(part, content.encode() if isinstance(content, str) else content, mode)
    part.replace(path)
    _sync(path.parent)


def append_line(path: Path, value: object) -> None:
    """Add a line of JSON to a file of the owner's alone; when this returns, it is on the disk."""
    make_private_folder(path.parent)
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
    with os.fdopen(number, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # after a power cut the last line may be without its end: a new line starts in any case
        file.write(f"\n{json.dumps(value)}\n")
        file.flush()
        os.fsync(file.fileno())


def whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what ``append_line`` added; a line that was torn is as if it had never been."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict):
                yield found


def hold(path: Path) -> int:
    """Hold a folder, or a file that is made, for this process alone; return the open descriptor.

    The hold ends when the descriptor is closed, and in any case with the process.

    Raises:
        BlockingIOError: Another process holds it.
    """
    how = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    number = os.open(path, how, PRIVATE_FILE)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        raise
    return number


def is_held(path: Path) -> bool:
    """Tell whether a process holds a file; OSError where there is none."""
    number = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(number)
    return False


def _write(path: Path, content: bytes, mode: int) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(number, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)

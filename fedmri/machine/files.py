"""Files that are written whole or not at all, and secrets that are private from the first byte."""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700

Content = str | bytes | memoryview | Callable[[BinaryIO], object]
"""What goes into a file: text, bytes, or what writes them into the open file."""


def make_private_folder(folder: Path) -> None:
    """Make a folder that its owner alone may enter; one that is there stays as it is."""
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a secret that was never readable by others.

    Raises:
        FileExistsError: There is a file: a key is never written over.
    """
    _fill(path, content, PRIVATE_FILE)
    _sync(path)
    _sync(path.parent)


def write_whole(path: Path, content: Content, mode: int = 0o644) -> None:
    """Write or replace a file durably: a reader sees the old file or the new one, never a part.

    When this returns, the new file survives a power cut. A process that is killed meanwhile
    leaves the old file.

    Args:
        path: The file.
        content: What goes into it.
        mode: Rights of the new file, from its first byte on; the umask may take some away.

    Raises:
        OSError: The system refuses it, such as a full disk; the old file stays.
    """
    with _part_of(path) as part:
        _fill(part, content, mode)
        replace_durably(part, path)


def write_tensors(
    path: Path, tensors: Mapping[str, Any], notes: Mapping[str, str], mode: int = 0o644
) -> None:
    """Write tensors of torch as a safetensors file, as durably as ``write_whole``.

    They go from where they lie to the disk: the bytes of a large file, made first, cost several
    times its writing.

    Raises:
        OSError: The system refuses it, such as a full disk; the old file stays.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    whole = {name: value.contiguous() for name, value in tensors.items()}
    with _part_of(path) as part:
        _fill(part, b"", mode)
        try:
            save_file(whole, part, dict(notes))
        except SafetensorError as error:
            refused = re.search(r"os error (\d+)", str(error))
            if refused is None:
                raise
            number = int(refused[1])
            raise OSError(number, os.strerror(number), str(part)) from error
        replace_durably(part, path)


def write_unsynced(path: Path, content: Content, mode: int = 0o666) -> None:
    """Write or replace a file as ``write_whole`` does, but let the disk write it when it likes.

    For what can be made again: after a power cut the file may be damaged.
    """
    with _part_of(path) as part:
        _fill(part, content, mode)
        part.replace(path)


def replace_durably(part: Path, path: Path) -> None:
    """Rename a written file into place; both survive a power cut in this order."""
    _sync(part)
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


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """Yield the name of an unfinished file beside a file; nothing of that name is there after."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    part.unlink(missing_ok=True)  # of a process that was killed and had the same number
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _fill(path: Path, content: Content, mode: int) -> None:
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    # To a file for writing alone, numpy writes past Python: of a full disk its error says nothing.
    with os.fdopen(number, "w+b") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode() if isinstance(content, str) else content)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)

"""Folders, walked without trust in what they hold: links may loop and names may be anything."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fedmri.data.files.pointers import fetched_by
from fedmri.data.scans import Finding
from fedmri.errors import DataError

MAX_DEPTH = 8


@dataclass
class Walk:
    """A walk over the files of a folder in name order, which gathers findings on its way.

    Hidden files and folders are passed over. A link to a folder is followed unless it leads back
    to a folder that was already walked.

    Attributes:
        findings: What was passed over and why; complete when the walk has ended.
    """

    root: Path
    findings: list[Finding] = field(default_factory=list)
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def files(self) -> Iterator[Path]:
        """Yield the files below the root, in name order."""
        yield from self._walk(self.root, 0)

    def _walk(self, folder: Path, depth: int) -> Iterator[Path]:
        if not self._is_new(folder, depth):
            return
        for path in self.entries(folder):
            if path.is_dir():
                yield from self._walk(path, depth + 1)
            elif path.exists() or fetched_by(path):  # a pointer is a file that is to be fetched
                yield path
            else:
                self._pass(f"{path} is a link that leads nowhere or in a circle")

    def entries(self, folder: Path) -> list[Path]:
        """Return what a folder holds, in name order, without hidden and unusable names."""
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            self._pass(f"{folder} cannot be listed: {error.strerror}")
            return []
        visible = [path for path in paths if not path.name.startswith(".")]
        for path in visible:
            if not is_plain_name(path.name):
                name = path.name.encode("unicode_escape").decode()
                reason = f"the name {name} in {folder.name} holds characters that cannot be printed"
                self.findings.append(Finding("D30", reason, is_excluded=False))
        return [path for path in visible if is_plain_name(path.name)]

    def _is_new(self, folder: Path, depth: int) -> bool:
        try:
            stat = folder.stat()
        except OSError as error:
            self._pass(f"{folder} cannot be opened: {error.strerror}")
            return False
        identity = (stat.st_dev, stat.st_ino)
        if identity in self._seen:
            self._pass(f"{folder} is a folder that was already read under another name")
            return False
        if depth > MAX_DEPTH:
            self._pass(f"{folder} lies more than {MAX_DEPTH} folders deep")
            return False
        self._seen.add(identity)
        return True

    def _pass(self, reason: str) -> None:
        self.findings.append(Finding("D29", reason, is_excluded=False))


def is_plain_name(name: str) -> bool:
    """Tell whether a name can be shown in a table: no control, format or undecodable character."""
    return not any(unicodedata.category(letter) in {"Cc", "Cf", "Cs"} for letter in name)


def inside(name: str) -> PurePosixPath | None:
    """Return a relative path as written in a table, or None where it leads out of its folder."""
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    is_drive = bool(path.parts) and path.parts[0].endswith(":")
    if path.is_absolute() or is_drive or ".." in path.parts or not path.parts:
        return None
    return path


def existing_folder(path: str) -> Path:
    """Return the folder of a data set.

    Raises:
        DataError: The path is empty, missing, unreadable or not a folder (D04).
    """
    folder = Path(path).expanduser()
    try:
        is_folder = bool(path) and folder.is_dir()
    except (OSError, ValueError):  # such as a name that is too long, or holds a null byte
        is_folder = False
    if not is_folder:
        fix = "set data.source.path to a folder"
        raise DataError("D04", f"data set {path!r}", found="no folder", want="a folder", fix=fix)
    return folder

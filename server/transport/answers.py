"""Answers that came before their turn, on the disk: one alone is in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from flwr.app import Array, ArrayRecord, RecordDict

from fedmri.errors import RoundError, told

PREFIX = ".answers-"


@dataclass(frozen=True)
class _OnDisk:
    dtype: str
    shape: tuple[int, ...]
    stype: str
    path: Path


@dataclass(frozen=True)
class _StoredArrays:
    """A record of arrays whose values are in files."""

    files: dict[str, _OnDisk]


class Answers:
    """The contents of answers by site, until each is taken.

    Args:
        folder: Where they are written; None takes the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None) -> None:
        for left in folder.glob(f"{PREFIX}*") if folder else ():  # of a process that was killed
            for path in left.iterdir():
                path.unlink()
            left.rmdir()
        self._folder = TemporaryDirectory(prefix=PREFIX, dir=folder)
        self._kept: dict[str, dict[str, Any]] = {}
        self._n = 0

    def __enter__(self) -> Answers:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Delete what was not taken."""
        self._folder.cleanup()

    def put(self, site: str, content: RecordDict) -> None:
        """Keep the content of a site's answer.

        Raises:
            RoundError: It cannot be written (R44).
        """
        try:
            self._kept[site] = {key: self._on_disk(record) for key, record in content.items()}
        except OSError as error:
            fix = "make room on the server's disk, then resume the run"
            what, want = f"answer of site {site} on its way", "a disk that it can wait on"
            found = told(error)
            raise RoundError("R44", what, found=found, want=want, fix=fix) from error

    def take(self, site: str) -> RecordDict:
        """Return the content of a site's answer, and forget it."""
        content = RecordDict()
        for key, record in self._kept.pop(site).items():
            content[key] = _loaded(record.files) if isinstance(record, _StoredArrays) else record
        return content

    def _on_disk(self, record: Any) -> Any:
        """Return a record of arrays as its files; any other as it is, for it is small."""
        if not isinstance(record, ArrayRecord):
            return record
        return _StoredArrays({name: self._written(array) for name, array in record.items()})

    def _written(self, array: Array) -> _OnDisk:
        self._n += 1
        path = Path(self._folder.name) / str(self._n)
        path.write_bytes(array.data)
        return _OnDisk(array.dtype, tuple(array.shape), array.stype, path)


def _loaded(record: dict[str, _OnDisk]) -> ArrayRecord:
    loaded = ArrayRecord()
    for name, kept in record.items():
        loaded[name] = Array(kept.dtype, kept.shape, kept.stype, kept.path.read_bytes())
        kept.path.unlink()
    return loaded

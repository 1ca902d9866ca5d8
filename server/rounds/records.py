"""The records of a run: one JSON object a line, by site and round."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Observer = Callable[[Record], None]


class Records:
    """Records of one run, in a file and at whoever watches."""

    def __init__(self, path: Path, fixed: Record, observe: Observer) -> None:
        self._path = path
        self._fixed = fixed
        self._observe = observe
        path.touch()

    @property
    def n_bytes(self) -> int:
        """Length of the file: a checkpoint notes it, and a resumed run goes on from there."""
        return self._path.stat().st_size

    def rewind(self, n_bytes: int) -> None:
        """Forget what was recorded after a checkpoint: those rounds are run again."""
        os.truncate(self._path, min(n_bytes, self.n_bytes))

    def add(self, kind: str, **fields: Any) -> None:
        """Append a record."""
        record = {"kind": kind, **self._fixed, **fields}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=True) + "\n")
        self._observe(record)

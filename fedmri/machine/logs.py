"""A log of months: its files are bounded, and what is said again and again is said once."""

from __future__ import annotations

import logging
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

FORM = "%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"
MOST_BYTES, N_KEPT = 20_000_000, 10
"""Size at which a file is changed, and how many older ones are kept."""
WINDOW_S = 60.0
MOST = 1000
"""Texts that are remembered; the oldest is forgotten first."""


class Unrepeated(logging.Filter):
    """Lets a text through once in a minute; the next time it says how often it was left out."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written."""
        if record.exc_info:
            text = f"{record.getMessage()} {record.exc_info[1]!r}"
        else:
            text = record.getMessage()
        key, now = (record.name, record.levelno, text), time.monotonic()
        since, n_left_out = self._said.pop(key, (-WINDOW_S - 1.0, 0))
        if now - since < WINDOW_S:
            self._said[key] = since, n_left_out + 1
            return False
        if n_left_out:
            record.msg, record.args = (
                f"{record.getMessage()} ({n_left_out} times more before)",
                None,
            )
        self._said[key] = now, 0
        if len(self._said) > MOST:
            del self._said[next(iter(self._said))]
        return True


def log_to(path: Path) -> None:
    """Send all logs of this process to a file, and to no terminal.

    The file is changed at 20 MB; ten older ones are kept beside it, whatever is logged.
    """
    handler = RotatingFileHandler(path, maxBytes=MOST_BYTES, backupCount=N_KEPT, encoding="utf-8")
    handler.addFilter(Unrepeated())
    # force: a library that was imported may have sent all logs to the terminal
    logging.basicConfig(handlers=[handler], format=FORM, level=logging.INFO, force=True)

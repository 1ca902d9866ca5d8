"""Log lines that strangers cause: so many a minute, and a count of the others."""

from __future__ import annotations

import logging
import time

A_MINUTE = 60.0
MOST = 30
"""Lines a minute."""


class Thinned:
    """Writes the first lines of each minute, and with the next one how many were left out.

    Args:
        log: Where they go.
        level: Of all of them.
    """

    def __init__(self, log: logging.Logger, level: int) -> None:
        self._log, self._level = log, level
        self._began, self._n = 0.0, 0

    def note(self, text: str, *given: object) -> None:
        """Write a line, or count it."""
        now = time.monotonic()
        if now - self._began > A_MINUTE:
            if self._n > MOST:
                self._log.log(self._level, "and %d more such lines", self._n - MOST)
            self._began, self._n = now, 0
        self._n += 1
        if self._n <= MOST:
            self._log.log(self._level, text, *given)

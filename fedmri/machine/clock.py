"""The time as files and pages write it: UTC, as ISO text in whole seconds."""

from __future__ import annotations

import datetime as dt
import time


def utc(seconds: float | None = None) -> str:
    """Return a time in seconds since 1970 as text; now where none is given."""
    moment = dt.datetime.fromtimestamp(time.time() if seconds is None else seconds, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"

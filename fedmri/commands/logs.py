"""Where the long-running commands write what they do."""

from __future__ import annotations

import logging
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

from fedmri.repeats import quiet_root

N_DAYS = 30


def log_to(path: Path) -> None:
    """Send all logs to a file that is changed every midnight and kept for a month."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = TimedRotatingFileHandler(path, when="midnight", backupCount=N_DAYS, encoding="utf-8")
    form = "%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"
    logging.basicConfig(handlers=[handler], format=form, level=logging.INFO, force=True)
    quiet_root()
    logging.captureWarnings(capture=True)
    for library in ("flwr", "httpx"):  # every request would be a line
        logging.getLogger(library).setLevel(logging.WARNING)

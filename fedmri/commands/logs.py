"""Where the long-running commands write what they do."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

from fedmri.machine.repeats import quiet_root

MOST_BYTES, N_KEPT = 20_000_000, 10


def log_to(path: Path) -> None:
    """Send all logs to a file that is changed at 20 MB; ten are kept, whatever strangers do."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=MOST_BYTES, backupCount=N_KEPT, encoding="utf-8")
    form = "%(asctime)s %(process)d %(name)s %(levelname)s %(message)s"
    logging.basicConfig(handlers=[handler], format=form, level=logging.INFO, force=True)
    quiet_root()
    logging.captureWarnings(capture=True)
    for library in ("flwr", "httpx"):  # every request would be a line
        logging.getLogger(library).setLevel(logging.WARNING)

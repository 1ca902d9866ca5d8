"""Where the long-running commands write what they do."""

from __future__ import annotations

import logging
from pathlib import Path

from fedmri.machine import logs
from fedmri.machine.files import make_private_folder


def log_to(path: Path) -> None:
    """Send all logs to a file in a folder of the owner's alone."""
    make_private_folder(path.parent)
    logs.log_to(path)
    logging.captureWarnings(capture=True)
    for library in ("flwr", "httpx"):  # every request would be a line
        logging.getLogger(library).setLevel(logging.WARNING)

"""The page of a harmonization of images, beside the report of a run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fedmri.errors import FedmriError

if TYPE_CHECKING:
    from fedmri.api.result import StudyResult

log = logging.getLogger("fedmri.simulation")


def try_image_page(result: StudyResult) -> Path | None:
    """Return the page, if images were harmonized; what goes wrong is told and costs no run."""
    try:
        return result.harmonization
    except (FedmriError, OSError, ValueError) as error:
        log.warning("no page of the harmonization of images: %s", error)
        text = f"fedmri: no page of the harmonization of images, all else is done: {error}"
        print(text, file=sys.stderr)
        return None

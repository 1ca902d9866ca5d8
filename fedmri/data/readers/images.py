"""Pictures: ``site/class/*.png`` and the like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.data.files.images import SUFFIXES, read_images
from fedmri.data.reader import Likeness, Look
from fedmri.data.scans import ScanTable
from fedmri.data.settings import SourceConfig


@dataclass(frozen=True)
class Images:
    """Folders of sites, in them folders of classes, in them pictures."""

    looks: ClassVar[str] = "site/class/*.png"

    def likeness(self, look: Look) -> Likeness:
        """Return that a picture makes it likely."""
        is_picture = any(path.suffix.lower() in SUFFIXES for path in look.files)
        return Likeness.LIKELY if is_picture else Likeness.NO

    def read(self, config: SourceConfig) -> ScanTable:
        """Return the scans."""
        return read_images(config)

"""DICOM: series of files below a folder for each subject, or by patient number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.data.dicom.series import is_dicom
from fedmri.data.dicom.tree import read_dicom
from fedmri.data.reader import Likeness, Look
from fedmri.data.scans import ScanTable
from fedmri.data.settings import SourceConfig


@dataclass(frozen=True)
class Dicom:
    """What scanners and archives write."""

    looks: ClassVar[str] = "DICOM files"

    def likeness(self, look: Look) -> Likeness:
        """Return that a file of the name or the first bytes of DICOM makes it likely."""
        is_series = any(path.suffix.lower() == ".dcm" or is_dicom(path) for path in look.files)
        return Likeness.LIKELY if is_series else Likeness.NO

    def read(self, config: SourceConfig) -> ScanTable:
        """Return the scans."""
        return read_dicom(config)

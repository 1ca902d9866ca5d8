"""Listing: a data set that one table of files describes, wherever the files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from fedmri.data.reader import Likeness, Look
from fedmri.data.scans import Scan, ScanTable
from fedmri.data.settings import SourceConfig

_NAME = "listing.tsv"


@dataclass(frozen=True)
class Listing:
    """``listing.tsv`` with a row a subject: subject, site, a column a modality, and the target."""

    looks: ClassVar[str] = "listing.tsv"

    def likeness(self, look: Look) -> Likeness:
        """Return that the table makes it certain."""
        return Likeness.CERTAIN if (look.root / _NAME).exists() else Likeness.NO

    def read(self, config: SourceConfig) -> ScanTable:
        """Return a scan for each row."""
        root = Path(config.path)
        table = pd.read_csv(root / _NAME, sep="\t", dtype=str, keep_default_na=False)
        scans = [self._scan(dict(row), root, config) for _, row in table.iterrows()]
        return ScanTable(tuple(scans))

    def _scan(self, row: dict[str, str], root: Path, config: SourceConfig) -> Scan:
        images = {name: root / row[name] for name in config.modalities if row.get(name)}
        site = row.get(config.site_column, config.site)
        return Scan(site, row["subject"], "", images, columns=row)

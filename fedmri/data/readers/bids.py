"""BIDS: folders ``sub-*``, with subjects and sites in ``participants.tsv``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedmri.data.bids.data_set import read_bids
from fedmri.data.reader import Likeness, Look
from fedmri.data.scans import ScanTable
from fedmri.data.settings import SourceConfig


@dataclass(frozen=True)
class Bids:
    """The Brain Imaging Data Structure (Gorgolewski et al. 2016, doi:10.1038/sdata.2016.44)."""

    looks: ClassVar[str] = "sub-* folders (BIDS)"

    def likeness(self, look: Look) -> Likeness:
        """Return that folders of subjects are certain, and a table of them alone is a hint."""
        if any(path.is_dir() for path in look.root.glob("sub-*")):
            return Likeness.CERTAIN
        has_table = (look.root / "participants.tsv").exists()
        return Likeness.POSSIBLE if has_table else Likeness.NO

    def read(self, config: SourceConfig) -> ScanTable:
        """Return the scans."""
        return read_bids(config)

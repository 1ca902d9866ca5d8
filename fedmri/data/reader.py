"""What a reader is: it knows one layout of data sets on a disk, and lists the scans in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import ClassVar, Protocol

from fedmri.data.scans import ScanTable
from fedmri.data.settings import SourceConfig
from fedmri.parts import Registry


class Likeness(IntEnum):
    """How sure a reader is that a folder is laid out its way; the surest one reads it."""

    NO = 0
    POSSIBLE = 1
    LIKELY = 2
    CERTAIN = 3


@dataclass(frozen=True)
class Look:
    """What is seen of a folder at a glance.

    Attributes:
        root: The folder.
        files: Its first files, of all depths, in name order.
    """

    root: Path
    files: Sequence[Path]


class Reader(Protocol):
    """A layout. Its class is a frozen dataclass; a hospital names it by ``data.source.layout``.

    Attributes:
        looks: What such a folder looks like, for people.
    """

    looks: ClassVar[str]

    def likeness(self, look: Look) -> Likeness:
        """Return how much a folder looks like this layout."""
        ...

    def read(self, config: SourceConfig) -> ScanTable:
        """Return the scans of a data set and what was odd; no image is opened.

        Raises:
            DataError: The folder or its tables cannot be used.
        """
        ...


AUTO = "auto"
"""Layout of settings that leave it to the looks of the folder."""

READERS = Registry[Reader]("data.source.layout", "fedmri.data", ("readers",), "fedmri.readers")

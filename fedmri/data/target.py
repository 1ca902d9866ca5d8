"""What data are asked for: the half of a task that reads tables and label maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from fedmri.data.scans import Finding, Scan
from fedmri.errors import DataError, require
from fedmri.round import Target, Truth

if TYPE_CHECKING:
    import torch

BACKGROUND = "background"
"""Class 0 of every label map."""


@dataclass(frozen=True)
class LabelMap:
    """A derivative whose mask or label map is read.

    Attributes:
        name: Name of the derivative.
        classes: One name for each positive integer label, without the background; a mask has one.
        labels: What values mean, as ``VALUE:CLASS``; empty takes values as they stand.
    """

    name: str
    classes: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        want = "VALUE:CLASS with a whole number or *, and a class of target.classes or background"
        known = {BACKGROUND, *self.classes}
        for text in self.labels:
            value, _, name = (part.strip() for part in text.partition(":"))
            is_value = value == "*" or (value.isascii() and value.isdecimal())
            require(is_value and name in known, "target.labels", text, want)
        values = [text.partition(":")[0].strip() for text in self.labels]
        require(len(set(values)) == len(values), "target.labels", self.labels, "each value once")

    @property
    def label_values(self) -> dict[str, int]:
        """Class by value of a label map, as declared; ``*`` is every other value."""
        numbers = {BACKGROUND: 0} | {name: n for n, name in enumerate(self.classes, start=1)}
        pairs = (text.partition(":") for text in self.labels)
        return {value.strip(): numbers[name.strip()] for value, _, name in pairs}


def map_of(scan: Scan, label_map: LabelMap) -> LabelMap:
    """Return how the label map of a scan is read: as the plan says, or as its data set says."""
    return replace(label_map, labels=scan.meanings) if scan.meanings else label_map


class DataTarget(Target, Protocol):
    """A target as the data room needs it."""

    @property
    def label_map(self) -> LabelMap | None:
        """Label map that is read of each scan; None reads none."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the subject table that are read; ``partition=dirichlet`` skews the first."""
        ...

    def truth(self, scan: Scan) -> Truth:
        """Return what is to be predicted for a scan; NaN where the label map has it.

        Of a label map in which some classes alone were drawn it is a flag for each class, see
        ``fedmri.data.partial``.

        Raises:
            DataError: The table has no usable value for the scan (D16).
        """
        ...

    def findings(self, scans: Sequence[Scan]) -> list[Finding]:
        """Return which scans have nothing that can be learned, and why; they are left out."""
        ...

    def site_findings(
        self, site: str, scans: Sequence[Scan], maps: Sequence[frozenset[int]]
    ) -> list[Finding]:
        """Return what is odd about the truths of a site's usable scans together.

        Args:
            site: The site.
            scans: Its usable scans.
            maps: Classes in the label map of each; empty where none is read.
        """
        ...

    def stratum(self, scan: Scan) -> str:
        """Return what patients are alike by; each such group of a site is split by itself."""
        ...

    def batch_target(self, truths: Sequence[Truth]) -> torch.Tensor:
        """Return ``Batch.target`` of some examples; it is not asked where label maps are."""
        ...


def first_alike(truths: Sequence[Truth]) -> list[bool]:
    """Tell which visits of a patient have the same truth as the first; NaN differs from nothing.

    Args:
        truths: What is true at each visit, in order.
    """
    known, alike = np.full_like(np.atleast_1d(truths[0]), math.nan), []
    for truth in truths:
        own = np.atleast_1d(truth)
        alike.append(bool(((own == known) | np.isnan(own) | np.isnan(known)).all()))
        known = np.where(np.isnan(known) & alike[-1], own, known)
    return alike


@runtime_checkable
class OfImages(Protocol):
    """What a target has besides, where it is made of the images themselves.

    Attributes:
        modalities: Those of the images, in their order.
    """

    modalities: Sequence[str]

    def hidden(
        self, image: torch.Tensor, n_each: int, seeds: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images as a network sees them, and ``Batch.target``.

        Args:
            image: Shape ``(B, C, *shape)``, all channels of a modality side by side.
            n_each: Channels of a modality.
            seeds: One for each example.
        """
        ...


def no_truth(found: str, want: str) -> DataError:
    """Return the error of a scan without a target (D16)."""
    fix = "complete the table, or list the subject in data.check.exclude"
    return DataError("D16", "target of a scan", found=found, want=want, fix=fix)

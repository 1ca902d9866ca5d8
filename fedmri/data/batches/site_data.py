"""A site's prepared examples, on disk and memory-mapped: the door between data and training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fedmri.round import Batch, Truth

if TYPE_CHECKING:
    import torch

Split = Literal["train", "val", "test"]


class OwnGrid(Protocol):
    """A scan's own grid: that of its label file."""

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel size along the axes of ``truth``."""
        ...

    def truth(self) -> np.ndarray:
        """Return the whole label map, uint8, as its file has it."""
        ...

    def restored(self, shares: np.ndarray) -> np.ndarray:
        """Return the label map that a prediction gives on the grid of ``truth``, uint8.

        Args:
            shares: Probabilities of background and classes, shape ``(n, 1 + K, *shape)``, for the
                examples of the scan in order.
        """
        ...


@dataclass(frozen=True)
class Example:
    """One item that the network sees: a volume, or a slice of one.

    Attributes:
        site: Institution that the scan comes from.
        subject: Patient.
        scan: Key of the scan.
        split: Side of the split; the same for all examples of a subject.
        image: ``.npy`` file in the cache, shape ``(C, D, H, W)`` or ``(C, H, W)``, float32.
        label: ``.npy`` file of the prepared label map, same spatial shape, or None.
        slice_index: Position along the slicing axis, or None for a whole volume.
        target: What is true of the scan; NaN where its label map has it.
        present: Whether each modality was there.
        spacing_mm: Voxel size after preparation, in the order of the spatial axes.
        own: The scan's own grid, on which a segmentation is scored; None scores the prepared one.
        mirror_axis: Spatial axis that runs left to right, or None.
    """

    site: str
    subject: str
    scan: str
    split: Split
    image: Path
    label: Path | None
    slice_index: int | None
    target: Truth
    present: tuple[bool, ...]
    spacing_mm: tuple[float, ...]
    own: OwnGrid | None = None
    mirror_axis: int | None = None


Voxels = NDArray[np.float32]
"""Intensities of a scan or of slices of it, shape ``(C, …)``; air and missing modalities are 0."""


class ImageChange(Protocol):
    """What is done to all images of a site before they become batches: a harmonization."""

    def __call__(self, key: str, whole: Voxels, part: Voxels) -> Voxels:
        """Return a part of a scan, changed.

        Args:
            key: Names the scan: what is needed of the whole is computed once.
            whole: The scan, shape ``(C, D, H, W)`` or ``(C, H, W)``.
            part: The scan, or slices of it.
        """
        ...


class SiteData(Protocol):
    """The examples that one client trains and is tested on."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over contents, preparation and split: the same data give the same."""
        ...

    def examples(self, split: Split) -> tuple[Example, ...]:
        """Return the examples of a split, sorted by scan and slice."""
        ...

    def scans(self, split: Split) -> Iterator[Voxels]:
        """Yield each scan of a split, whole and without augmentation, in the examples' order."""
        ...

    def changed(self, change: ImageChange) -> SiteData:
        """Return the same examples with another look, after the changes so far."""
        ...

    def placed(self, device: torch.device) -> SiteData:
        """Return the same examples, whose training images are changed on a device."""
        ...

    def train_batches(self, *, batch_size: int, seed: int) -> Iterator[Batch]:
        """Yield one epoch of shuffled, augmented training batches; the seed decides all of it."""
        ...

    def train_sized(self, sizes: Sequence[int], *, seeds: Iterator[int]) -> Iterator[Batch]:
        """Yield a training batch of each size, from one pass after another.

        Args:
            sizes: Examples of each batch.
            seeds: Of the passes, without an end; each decides the order and augmentation of one.
        """
        ...

    def train_picks(self, picks: Sequence[int], *, seed: int) -> Iterator[Batch]:
        """Yield some training examples, augmented and not mixed, a batch for each shape.

        Args:
            picks: Positions in ``examples("train")``.
            seed: Of the augmentation.
        """
        ...

    def eval_batches(self, split: Split, *, batch_size: int) -> Iterator[Batch]:
        """Yield every example of a split once, in order, without augmentation."""
        ...

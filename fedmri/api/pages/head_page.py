"""A page of pictures: the estimated head of each scan that the data check has doubts about."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fedmri.data.files.volume import load_image, load_label
from fedmri.data.preparation.head import find_head
from fedmri.data.scans import Scan, ScanTable
from fedmri.data.target import DataTarget
from fedmri.errors import DataError, UsageError, told
from fedmri.machine.files import PRIVATE_FILE, write_unsynced
from fedmri.reports.pages.pictures import png
from fedmri.reports.pages.templates import template

CODES = frozenset({"D46", "D47"})
N_SLICES = 3


@dataclass(frozen=True)
class Picture:
    """A picture file beside the page, and what it shows."""

    address: str
    words: str


@dataclass(frozen=True)
class Doubt:
    """A scan, what the check doubts about it, and its pictures."""

    scan: str
    reasons: tuple[str, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Drawn:
    """Planes of an image with its head and its label, each of shape ``(H, W)``."""

    image: NDArray[np.float32]
    head: NDArray[np.bool_]
    label: NDArray[np.bool_] | None


def write_head_pages(
    folder: Path, table: ScanTable, target: DataTarget | None, modalities: Sequence[str]
) -> tuple[Path, int]:
    """Draw every scan with a doubtful head (D46, D47) into a folder of pictures and a page.

    Args:
        folder: Made where it is missing. Pictures are numbered: no name of a patient is a path.
        table: What the data check found.
        target: Whose label maps are outlined; None outlines none.
        modalities: Images that are drawn.

    Returns:
        The page and the number of scans on it.

    Raises:
        UsageError: The folder cannot be written to (U01).
    """
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for finding in table.findings:
        if finding.code in CODES:
            key = (finding.site, finding.subject, finding.session)
            reasons.setdefault(key, []).append(f"{finding.reason} [{finding.code}]")
    flagged = [scan for scan in table.scans if (scan.site, scan.subject, scan.session) in reasons]
    page, numbers = folder / "index.html", itertools.count(1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        doubts = [
            Doubt(
                f"{scan.site} {scan.key}",
                tuple(reasons[scan.site, scan.subject, scan.session]),
                tuple(
                    _picture(folder / f"{next(numbers):04d}.png", modality, planes)
                    for modality, planes in _drawn(scan, target, modalities)
                ),
            )
            for scan in flagged
        ]
        text = template("head_page.html.jinja", "fedmri.api.pages").render(doubts=doubts)
        write_unsynced(page, text.encode("utf-8", "replace"), PRIVATE_FILE)
    except OSError as error:
        fix = "name another folder after --pictures"
        what = f"folder {folder} of pictures"
        found = told(error)
        raise UsageError("U01", what, found=found, want="a folder to write to", fix=fix) from error
    return page, len(flagged)


def _drawn(
    scan: Scan, target: DataTarget | None, modalities: Sequence[str]
) -> Iterator[tuple[str, list[Drawn]]]:
    """Yield the planes by modality; of what cannot be read, the check has said why."""
    label = None
    if target and (label_map := target.label_map) and label_map.name in scan.labels:
        with suppress(DataError):
            label = load_label(scan.labels[label_map.name], label_map)[0]
    for modality in modalities:
        if modality in scan.images:
            with suppress(DataError):
                yield modality, _planes(scan.images[modality], label)


def _planes(path: Path, label: NDArray[np.int16] | None) -> list[Drawn]:
    """Return a picture, or slices of a volume as one looks at them: front and left ... up."""
    values, affine = load_image(path)
    is_label = label is not None and label.shape == values.shape
    marked = label > 0 if label is not None and is_label else None
    if values.ndim == 2:
        head = find_head(values[..., None]).mask[..., 0]
        return [Drawn(values, head, marked)]
    axes = nib.io_orientation(affine)
    head = nib.apply_orientation(find_head(values).mask, axes)
    turned = nib.apply_orientation(values, axes)
    marked = None if marked is None else nib.apply_orientation(marked, axes)
    axis = int(np.argmin(turned.shape)) if 2 * min(turned.shape) <= max(turned.shape) else 2
    return [
        Drawn(
            _up(turned, axis, place),
            _up(head, axis, place),
            None if marked is None else _up(marked, axis, place),
        )
        for place in _places(head if marked is None or not marked.any() else marked, axis)
    ]


def _places(mask: NDArray[np.bool_], axis: int) -> list[int]:
    """Return the slice that shows most of a mask, and others a quarter of it before and behind."""
    counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
    there = np.flatnonzero(counts)
    chosen = np.quantile(there, (0.25, 0.75)).round().astype(int)
    return sorted({int(counts.argmax()), *chosen.tolist()})[:N_SLICES]


def _up(volume: NDArray, axis: int, place: int) -> NDArray:  # type: ignore[type-arg]
    return np.ascontiguousarray(np.take(volume, place, axis).T[::-1])


def _picture(path: Path, modality: str, planes: Sequence[Drawn]) -> Picture:
    image = np.hstack([plane.image for plane in planes])
    head = np.hstack([plane.head for plane in planes])
    labels = [plane.label for plane in planes if plane.label is not None]
    drawn = png(image, np.hstack(labels) if labels else None, head)
    write_unsynced(path, drawn, PRIVATE_FILE)
    return Picture(path.name, f"{modality}, with the outline of the estimated head")

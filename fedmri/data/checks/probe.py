"""What opening a scan's files tells: whether they can be used, and what they look like."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from fedmri.data.checks.ct import is_hounsfield, looks_like_ct
from fedmri.data.checks.fingerprint import Bits, fingerprint, planes
from fedmri.data.checks.head_check import HeadLook, look_at_head
from fedmri.data.dicom.series import is_dicom
from fedmri.data.files.nifti import Affine, Volume, Voxels
from fedmri.data.files.pictures import looks_inverted
from fedmri.data.files.placing import LABEL, apart, misfits, oddity, placed_together
from fedmri.data.files.volume import read_image, read_label
from fedmri.data.scans import Finding, Scan, about
from fedmri.data.target import DataTarget, LabelMap, map_of
from fedmri.data.visits import by_visit
from fedmri.errors import DataError

N_THREADS = min(2, os.cpu_count() or 1)
AXIAL = -1


@dataclass(frozen=True)
class View:
    """What one image looks like.

    Attributes:
        digest: SHA-256 of the file, or of the voxels of a DICOM series.
        bits: Perceptual fingerprint.
        shape: Of the array.
        affine: From voxel to world.
        is_ct: Whether it looks like CT.
    """

    digest: bytes
    bits: Bits
    shape: tuple[int, ...]
    affine: Affine
    is_ct: bool

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel size along the axes of the world, left-right first."""
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        order = np.argsort(nib.io_orientation(self.affine)[:, 0])
        return tuple(float(length) for length in spacing[order])

    @property
    def axes(self) -> str:
        """Directions of the array's axes, such as ``RAS``."""
        return "".join(str(code) for code in nib.aff2axcodes(self.affine))


@dataclass(frozen=True)
class Probe:
    """What is known of a scan after opening it.

    Attributes:
        scan: The scan.
        findings: Why it cannot be used; empty where it can.
        views: What its images look like, by modality.
        classes: Classes in its label map; empty where the task needs none.
    """

    scan: Scan
    findings: tuple[Finding, ...]
    views: Mapping[str, View]
    classes: frozenset[int] = frozenset()


def probe_all(
    scans: Sequence[Scan], target: DataTarget | None, modalities: Sequence[str]
) -> tuple[Probe, ...]:
    """Open every scan once, in a few threads.

    Args:
        scans: The scans.
        target: What is to be predicted: decides whether labels are opened.
        modalities: Modalities that are used.

    Returns:
        One probe per scan, in the same order.
    """
    label_map = target.label_map if target else None
    with ThreadPoolExecutor(N_THREADS) as pool:
        return tuple(pool.map(lambda scan: _probe(scan, label_map, modalities), scans))


def _probe(scan: Scan, label_map: LabelMap | None, modalities: Sequence[str]) -> Probe:
    files = {name: path for name, path in scan.images.items() if name in modalities}
    findings: list[Finding] = []
    if not files:
        findings.append(about(scan, "D24", f"has none of {', '.join(modalities)}"))
    opened = _open_all(scan, files, read_image, findings)
    if label_map and label_map.name in scan.labels:
        place = {LABEL: scan.labels[label_map.name]}
        own = map_of(scan, label_map)
        opened |= _open_all(scan, place, lambda path: read_label(path, own), findings)
    return _seen(scan, opened, findings, label_map.name if label_map else "")


def _open_all(
    scan: Scan, files: Mapping[str, Path], read: Callable[[Path], Volume], findings: list[Finding]
) -> dict[str, Volume]:
    """Return the files that can be read, and add to the findings what is to be said of each."""
    opened: dict[str, Volume] = {}
    for name, path in files.items():
        try:
            volume = read(path)
        except DataError as error:
            findings.append(about(scan, error.code, f"{path.name}: {error}"))
            continue
        opened[name] = volume
        for code, reason in volume.remarks:
            findings.append(about(scan, code, f"{path.name}: {reason}", is_excluded=False))
    return opened


def _seen(
    scan: Scan, opened: Mapping[str, Volume], findings: list[Finding], label_name: str
) -> Probe:
    """Return the probe of a scan whose files were opened."""
    visits = by_visit(opened)
    try:
        opened = {name: one for visit in visits for name, one in placed_together(visit).items()}
    except DataError as error:
        findings = [*findings, about(scan, error.code, str(error))]
    label = opened.get(LABEL)
    images = {name: volume for name, volume in opened.items() if name != LABEL}
    kind = scan.columns.get("Modality", "")
    views = {name: _view(scan.images[name], volume, kind) for name, volume in images.items()}
    reasons = [text for visit in by_visit(images) for text in apart(visit)]
    told = [about(scan, "D57", text, is_excluded=False) for text in reasons]
    told += [*_same_images(scan, views), *_inverted(scan, images)]
    heads = {name: look_at_head(volume.voxels) for name, volume in images.items()}
    told += _shares(scan, heads)
    classes: frozenset[int] = frozenset()
    if label is not None:
        classes = frozenset(int(value) for value in np.unique(label.voxels))
        file = scan.labels[label_name].name
        told += _fit(scan, file, label, images)
        told += _outside(scan, file, label, images, heads)
    return Probe(scan, (*findings, *told), views, classes)


def _fit(scan: Scan, file: str, label: Volume, images: Mapping[str, Volume]) -> list[Finding]:
    """Return why a label does not fit its images, or that it has to be sampled anew."""
    if not images:
        return []
    if reasons := misfits(label, images):
        return [about(scan, "D14", f"{file} {reasons[0]}")]
    told = oddity(label, images)
    return [about(scan, "D14", f"{file} {told}", is_excluded=False)] if told else []


def _same_images(scan: Scan, views: Mapping[str, View]) -> list[Finding]:
    """Return which modalities of a scan hold one image."""
    names: dict[bytes, list[str]] = {}
    for modality, view in views.items():
        names.setdefault(view.digest, []).append(modality)
    return [
        about(scan, "D56", f"{' and '.join(same)} are one image", is_excluded=False)
        for same in names.values()
        if len(same) > 1
    ]


def _inverted(scan: Scan, images: Mapping[str, Volume]) -> list[Finding]:
    """Return which pictures lie on white, as where black and white are exchanged."""
    flat = {name: v for name, v in images.items() if v.voxels.ndim == 2}
    gray = {name: planes(v.voxels, v.affine)[AXIAL] for name, v in flat.items()}
    reasons = [
        f"{scan.images[n].name} has a white edge" for n, g in gray.items() if looks_inverted(g)
    ]
    return [
        about(scan, "D69", f"{reason}, as where black and white are exchanged", is_excluded=False)
        for reason in reasons
    ]


def _shares(scan: Scan, heads: Mapping[str, HeadLook]) -> list[Finding]:
    """Return which heads take an implausible share of their image."""
    said = [head.share_finding(modality) for modality, head in heads.items()]
    return [about(scan, "D47", reason, is_excluded=False) for reason in said if reason]


def _outside(
    scan: Scan,
    file: str,
    label: Volume,
    images: Mapping[str, Volume],
    heads: Mapping[str, HeadLook],
) -> list[Finding]:
    """Return from which heads a label sticks out, of the images on whose grid it lies."""
    said = [
        heads[modality].label_finding(modality, file, label.voxels)
        for modality, image in images.items()
        if image.voxels.shape == label.voxels.shape
        and np.allclose(image.affine, label.affine, atol=1e-3)
    ]
    return [about(scan, "D46", reason, is_excluded=False) for reason in said if reason]


def _view(path: Path, volume: Volume, header_modality: str) -> View:
    voxels, affine = volume.voxels, volume.affine
    gray = planes(voxels, affine)
    is_ct = header_modality == "CT" or is_hounsfield(voxels) or looks_like_ct(gray[AXIAL])
    return View(_digest(path, voxels), fingerprint(gray), voxels.shape, affine, is_ct)


def _digest(path: Path, voxels: Voxels) -> bytes:
    if path.is_dir() or is_dicom(path):  # exported again, it has new numbers
        return hashlib.sha256(np.ascontiguousarray(voxels).data).digest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()

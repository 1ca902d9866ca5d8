"""What opening a scan's files tells: whether they can be used, and what they look like."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fedmri.data.ct import is_hounsfield, looks_like_ct
from fedmri.data.fingerprint import Bits, fingerprint, planes
from fedmri.data.pictures import looks_inverted
from fedmri.data.scans import Finding, Scan
from fedmri.data.series import is_dicom
from fedmri.data.volume import Affine, Voxels, load_image, load_label
from fedmri.errors import DataError
from fedmri.round import Target

N_THREADS = min(2, os.cpu_count() or 1)
AXIAL = -1

Gray = NDArray[np.uint8]


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
    scans: Sequence[Scan], target: Target | None, modalities: Sequence[str]
) -> tuple[Probe, ...]:
    """Open every scan once, in a few threads.

    Args:
        scans: The scans.
        target: What is to be predicted: decides whether labels are opened.
        modalities: Modalities that are used.

    Returns:
        One probe per scan, in the same order.
    """
    with ThreadPoolExecutor(N_THREADS) as pool:
        return tuple(pool.map(lambda scan: _probe(scan, target, modalities), scans))


def _probe(scan: Scan, target: Target | None, modalities: Sequence[str]) -> Probe:
    findings: list[Finding] = []
    views: dict[str, View] = {}
    for modality, path in scan.images.items():
        if modality not in modalities:
            continue
        try:
            voxels, affine = load_image(path)
        except DataError as error:
            findings.append(about(scan, error.code, f"{path.name}: {error}"))
        else:
            gray = planes(voxels, affine)
            views[modality] = _view(scan, path, (voxels, affine), gray)
            if voxels.ndim == 2 and looks_inverted(gray[AXIAL]):
                reason = f"{path.name} has a white edge, as where black and white are exchanged"
                findings.append(about(scan, "D69", reason, is_excluded=False))
    if not scan.images.keys() & set(modalities):
        findings.append(about(scan, "D24", f"has none of {', '.join(modalities)}"))
    classes: frozenset[int] = frozenset()
    if target and target.kind == "segmentation" and target.name in scan.labels:
        classes, said = _look_at_label(scan, target, views)
        findings += said
    return Probe(scan, tuple(findings), views, classes)


def about(scan: Scan, code: str, reason: str, *, is_excluded: bool = True) -> Finding:
    """Return a finding about a scan."""
    return Finding(code, reason, scan.site, scan.subject, scan.session, is_excluded)


def _view(scan: Scan, path: Path, image: tuple[Voxels, Affine], gray: list[Gray]) -> View:
    voxels, affine = image
    is_said = scan.columns.get("Modality") == "CT"
    is_ct = is_said or is_hounsfield(voxels) or looks_like_ct(gray[AXIAL])
    return View(_digest(path, voxels), fingerprint(gray), voxels.shape, affine, is_ct)


def _digest(path: Path, voxels: Voxels) -> bytes:
    if path.is_dir() or is_dicom(path):  # exported again, it has new numbers
        return hashlib.sha256(np.ascontiguousarray(voxels).data).digest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _look_at_label(
    scan: Scan, target: Target, views: Mapping[str, View]
) -> tuple[frozenset[int], list[Finding]]:
    path = scan.labels[target.name]
    try:
        labels, affine = load_label(path, len(target.classes))
    except DataError as error:
        return frozenset(), [about(scan, error.code, f"{path.name}: {error}")]
    findings = []
    for modality, view in views.items():
        if labels.shape != view.shape:
            reason = f"{path.name} has shape {labels.shape}, {modality} has {view.shape}"
            findings.append(about(scan, "D14", reason))
        elif (shift_mm := _shift_mm(affine, view)) > min(view.spacing_mm) / 2:
            reason = f"{path.name} lies up to {shift_mm:.1f} mm away from {modality}"
            findings.append(about(scan, "D14", reason))
    return frozenset(int(value) for value in np.unique(labels)), findings


def _shift_mm(affine: Affine, view: View) -> float:
    """Return how far the corners of two grids of one shape lie apart, at most."""
    corners = np.array(np.meshgrid(*[(0, length) for length in view.shape])).reshape(
        len(view.shape), -1
    )
    points = np.vstack([corners, np.zeros((3 - len(corners), corners.shape[1]))])
    apart = (affine - view.affine)[:3, :3] @ points + (affine - view.affine)[:3, 3:]
    return float(np.linalg.norm(apart, axis=0).max())

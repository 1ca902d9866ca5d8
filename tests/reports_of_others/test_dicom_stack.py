"""Stacks of DICOM slices that lean or hold two images, as others reported them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset

from fedmri.data.files.volume import load_image
from tests.reports_of_others.dicom_files import N_SLICES, fields, pixels, plane, series, truth
from tests.reports_of_others.test_dicom_series import found, told


def two_echoes(folder: Path) -> None:
    """Store a late and an early echo under one series number."""
    for te, seed in ((100, 1), (15, 2)):
        edit = fields(SeriesInstanceUID="1.2.3", EchoTime=te, RepetitionTime=3000)
        series(folder, seed, edit=edit, name=f"te{te}-{{index}}.dcm", says="PD+T2 tse")


def tilted(folder: Path, lean_mm: float) -> None:
    """Lean the slices over, as a gantry does: so far in y for 4 mm in z."""

    def edit(data: FileDataset, index: int) -> None:
        x, y, z = data.ImagePositionPatient
        y += lean_mm * index
        data.ImagePositionPatient = [x, y, z]
        columns, rows = np.meshgrid(np.arange(16), np.arange(16))
        shown = place(x + 1.25 * columns, y + 1.5 * rows, z)
        data.PixelData = np.round(shown).astype(np.uint16).tobytes()

    series(folder, 1, edit=edit)


def place(x: np.ndarray, y: np.ndarray, z: float) -> np.ndarray:
    """Return what the world shows at a place in mm: a slope in each direction."""
    return np.asarray(1000 + 5 * x + 8 * y + 11 * z)


@pytest.mark.parametrize("lean_mm", [3.0, -2.0, 0.7])
def test_a_leaning_stack_is_set_upright(lean_mm: float, tmp_path: Path) -> None:
    """Voxels stand where the header says, by an affine without shear (rordenlab/dcm2niix#253)."""
    tilted(tmp_path / "A/bad", lean_mm)
    table = found(tmp_path)
    voxels, affine = load_image(table.scans[0].images["FLAIR"])
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    assert np.allclose(np.abs(axes), np.eye(3))
    index = np.argwhere(np.ones_like(voxels))
    x, y, z = (nib.affines.apply_affine(affine, index) * [-1, -1, 1]).T  # RAS+ to LPS
    top = 20 + lean_mm * (z - 30) / 4  # where the first row of the slice lies
    inside = (y >= top) & (y <= top + 15 * 1.5)
    assert inside.sum() >= 16 * 15 * N_SLICES
    assert np.abs(voxels[tuple(index.T)] - place(x, y, z))[inside].max() <= 0.6
    assert told(table)["D68"] is False


def test_a_straight_stack_is_left_alone(tmp_path: Path) -> None:
    """Rounding of positions is no slant: nothing is interpolated."""

    def edit(data: FileDataset, index: int) -> None:
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, y + 0.02 * (index % 2), z]

    series(tmp_path / "A/bad", 1, edit=edit)
    table = found(tmp_path)
    assert np.array_equal(load_image(table.scans[0].images["FLAIR"])[0], truth(1))
    assert told(table) == {}


def test_each_echo_is_an_image_of_its_own(tmp_path: Path) -> None:
    """Late is T2 and early is PD, though they share a series (rordenlab/dcm2niix#692)."""
    two_echoes(tmp_path / "A/bad")
    for modality, seed in (("T2w", 1), ("PDw", 2)):
        (scan,) = found(tmp_path, modalities=(modality,)).scans
        assert np.array_equal(load_image(scan.images[modality])[0], truth(seed))


def test_fractions_of_a_slice_survive_a_whole_first_slope(tmp_path: Path) -> None:
    """The first slice's slope of 1 makes no integers of the others (SimpleITK/SimpleITK#1636)."""

    def edit(data: FileDataset, index: int) -> None:
        data.RescaleSlope, data.RescaleIntercept = (1 if index == 0 else "0.01"), 0
        raw = plane(data) * (0.05 if index == 0 else 5)
        pixels(data, np.round(raw).astype(np.uint16))

    series(tmp_path / "A/bad", 1, edit=edit)
    voxels, _ = load_image(found(tmp_path).scans[0].images["FLAIR"])
    off = np.abs(voxels - 0.05 * truth(1))
    assert off[:, :, 0].max() <= 0.5
    assert off[:, :, 1:].max() <= 0.005

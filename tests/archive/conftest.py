"""DICOM series that lie oblique in the scanner, and a model that finds something in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from fedmri.trained.model import TrainedModel
from tests.reports_of_others.dicom_files import Edit, keep, series
from tests.untrained import finding, untrained

ANGLES = (25.0, -20.0, 10.0)
STEP_MM, PIXELS_MM = 12.0, (8.0, 7.0)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Lie:
    """How a series lies in the scanner."""

    angles: Sequence[float] = ANGLES
    tilt_mm: float = 0.0
    frame: str = "frame of reference"

    def edit(self, then: Edit = keep) -> Edit:
        """Return what turns a slice, and gives it what a scanner writes beside."""

        def turn(data: FileDataset, index: int) -> None:
            axes = Rotation.from_euler("xyz", self.angles, degrees=True).as_matrix()
            place = axes @ np.array([10, 20 + self.tilt_mm * index, 30 + STEP_MM * index])
            data.ImageOrientationPatient = [*np.round(axes[:, 0], 6), *np.round(axes[:, 1], 6)]
            data.ImagePositionPatient = [*np.round(place, 5)]
            data.PixelSpacing, data.SliceThickness = [*PIXELS_MM], STEP_MM
            data.FrameOfReferenceUID = generate_uid(entropy_srcs=[self.frame])
            data.SpecificCharacterSet = "ISO_IR 100"
            data.PatientName, data.PatientSex = "M\u00fcller^J\u00f6rg", "M"
            data.StudyTime, data.StudyID, data.SeriesNumber = "101010", "1", 3
            then(data, index)

        return turn


def oblique(folder: Path, seed: int = 1, lie: Lie | None = None, then: Edit = keep) -> Path:
    """Write a series and return its folder."""
    series(folder, seed, edit=(lie or Lie()).edit(then))
    return folder


def in_scan(seg: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the classes that a DICOM-SEG has at each voxel of a grid; 255 where it has no frame.

    Each voxel of the segmentation goes by its own place in the patient, as in any viewer.
    """
    volume = highdicom.seg.segread(seg).get_volume(combine_segments=True)
    to_grid = np.linalg.inv(affine) @ LPS_TO_RAS @ volume.affine
    found = np.full(shape, 255, dtype=np.uint8)
    indices = np.indices(volume.array.shape).reshape(3, -1)
    placed = (to_grid @ np.vstack([indices, np.ones(indices.shape[1])]))[:3]
    exact = np.rint(placed).astype(int)
    assert np.abs(placed - exact).max() < 0.01, "a voxel lies between those of the scan"
    found[tuple(exact)] = volume.array.reshape(-1)
    return found


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Return a model of masks that finds lesions in a third of a made series."""
    folder = oblique(tmp_path_factory.mktemp("tuning") / "A" / "p1")
    return finding(untrained("mask"), folder)

"""Public reports about grids: what went wrong elsewhere, with the right value here.

Each kind names the thread that it was built after. The files are made in the test.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import PreparedScan
from fedmri.data.preparation.regrid import one_hot
from fedmri.data.scans import Finding, Scan
from fedmri.data.settings import DataConfig, PrepareConfig, SourceConfig
from fedmri.tasks.kinds.segmentation import Segmentation

MASK = Segmentation("mask", ("tumour",))
SHAPE = (32, 40, 16)
Values = np.ndarray[Any, Any]


def affine(degrees: float = 0.0, spacing_mm: tuple[float, ...] = (2.0, 2.0, 4.0)) -> Values:
    """Return a grid turned about the left-right axis."""
    turn = nib.eulerangles.euler2mat(x=math.radians(degrees))
    return np.asarray(nib.affines.from_matvec(turn @ np.diag(spacing_mm), [-30, 20, 5]))


def head(shape: tuple[int, ...] = SHAPE) -> Values:
    """Return a bright ellipsoid with a gradient, in air."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    squares = [((a - (n - 1) / 2) / (0.42 * n)) ** 2 for a, n in zip(axes, shape, strict=True)]
    return np.asarray((sum(squares) <= 1) * (100.0 + axes[0] + 2 * axes[1]), dtype=np.float32)


def ball(centre: tuple[float, ...], radius: float, shape: tuple[int, ...] = SHAPE) -> Values:
    """Return a mask that is 1 in a ball, in voxels."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    squares = [(a - c) ** 2 for a, c in zip(axes, centre, strict=True)]
    return np.asarray(sum(squares) <= radius**2, dtype=np.int16)


def stored(path: Path, values: Values, grid: Values, code: str = "") -> Path:
    """Write a NIfTI file, its axes in the order and direction of a code."""
    image = nib.Nifti1Image(values, grid)
    if code:
        goal = nib.orientations.axcodes2ornt(tuple(code))
        own = nib.orientations.io_orientation(grid)
        image = image.as_reoriented(nib.orientations.ornt_transform(own, goal))
    nib.save(image, path)
    return path


def prepared(
    folder: Path, files: tuple[Path, Path], **settings: Any
) -> tuple[PreparedScan, tuple[Finding, ...]]:
    """Prepare an image with its mask."""
    image, mask = files
    scan = Scan("north", "s1", "", {"FLAIR": image}, {"mask": mask})
    prepare = PrepareConfig(**{"dimension": "2d", "scaling": "none", **settings})
    config = DataConfig(source=SourceConfig(modalities=("FLAIR",)), prepare=prepare)
    done = prepare_scans([scan], MASK, config, {"s1": "test"}, folder / "cache")
    assert done.scans, done.findings
    return done.scans[0], done.findings


def volume(
    folder: Path, mask: Values, grid: Values, code: str = "", **settings: Any
) -> tuple[PreparedScan, tuple[Finding, ...]]:
    """Write a head with a mask and prepare it."""
    image = stored(folder / "flair.nii.gz", head(), grid, code)
    return prepared(folder, (image, stored(folder / "mask.nii.gz", mask, grid, code)), **settings)


def labels(scan: PreparedScan) -> torch.Tensor:
    """Return the prepared labels of the scan's examples."""
    assert scan.label is not None
    whole = torch.from_numpy(np.load(scan.label))
    return whole[None] if scan.slices is None else whole[list(scan.slices)]


def scores(scan: PreparedScan, predicted: torch.Tensor) -> dict[str, float]:
    """Score label maps of the examples."""
    task = MASK
    return dict(task.read(predicted, labels(scan)[:, None], list(scan.examples())).scores)


def brought_back(scan: PreparedScan) -> tuple[Values, Values]:
    """Return the prepared label map on the grid of its file, and the file's."""
    own = next(scan.examples()).own
    assert own is not None
    return own.restored(np.stack([one_hot(part, 1) for part in labels(scan).numpy()])), own.truth()


@pytest.mark.parametrize("spacing_mm", [1.0, 1.5, 2.0])
def test_a_finer_grid_and_back_is_the_same_mask(tmp_path: Path, spacing_mm: float) -> None:
    """To a finer grid and back gave Dice .95 instead of 1.

    Source:
        github.com/voreille/hecktor, issue 6.
    """
    mask = ball((14, 22, 7), 4) | ball((24, 12, 9), 0)
    scan, findings = volume(tmp_path, mask, affine(), dimension="3d", spacing_mm=spacing_mm)
    found, truth = brought_back(scan)
    assert np.array_equal(found, truth)
    assert scores(scan, labels(scan))["dice"] == 1
    assert findings == ()


@pytest.mark.parametrize("code", ["RAS", "LPS", "LAS", "SAR", "PIR"])
@pytest.mark.parametrize("degrees", [0.0, 12.0])
def test_an_oblique_or_turned_scan_is_scored_where_it_lies(
    tmp_path: Path, code: str, degrees: float
) -> None:
    """Masks of oblique scans came back flipped, or in another direction than the input.

    Source:
        github.com/MuscleMap/MuscleMap, issue 22; github.com/Project-MONAI/MONAI, issue 1333.
    """
    mask = ball((10, 28, 6), 3)
    scan, _ = volume(tmp_path, mask, affine(degrees), code, size=(40, 40))
    found, truth = brought_back(scan)
    assert np.array_equal(found, truth)
    file = nib.Nifti1Image.from_filename(tmp_path / "mask.nii.gz")
    assert np.array_equal(truth, np.asarray(file.dataobj))
    assert scan.geometry.own.shape == file.shape
    assert np.allclose(scan.geometry.own.affine, file.affine)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": (16, 20)},
        {"dimension": "3d", "spacing_mm": 5.0},
        {"slice_axis": 0, "size": (20, 9)},
    ],
    ids=str,
)
def test_a_result_has_the_grid_of_the_input(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Predictions kept the network's voxel size and shape instead of the scan's.

    Source:
        github.com/BBillot/SynthSeg, issue 111; github.com/neuropoly/totalspineseg, issue 59.
    """
    mask = ball((14, 22, 7), 5)
    scan, _ = volume(tmp_path, mask, affine(7.0), **settings)
    found, truth = brought_back(scan)
    assert found.shape == truth.shape == SHAPE
    own = next(scan.examples()).own
    assert own is not None
    assert own.spacing_mm == pytest.approx((2, 2, 4))
    centres = [np.argwhere(values).mean(axis=0) for values in (found, truth)]
    assert np.abs(centres[0] - centres[1]).max() < 0.5


@pytest.mark.parametrize(
    ("settings", "n_missed"),
    [
        ({"shape": (0, 12, 12)}, 1),
        ({"skip_first": 12}, 1),
        ({"size": (16, 20)}, 0),
    ],
    ids=str,
)
def test_truth_is_not_cropped_with_the_image(
    tmp_path: Path, settings: dict[str, Any], n_missed: int
) -> None:
    """Scores against the resampled and cropped truth say nothing of the scan.

    Source:
        github.com/nihaomiao/MICCAI22_ADN, issue 6.
    """
    scan, findings = volume(tmp_path, ball((5, 20, 4), 2), affine(), **settings)
    found = scores(scan, labels(scan))
    assert found["n_missed"] == n_missed
    assert found["n_both_empty"] == 0
    assert (found["dice"] == 0) == bool(n_missed)
    assert scan.loss is not None
    assert found["dice"] == scan.loss.ceiling
    assert [f.code for f in findings if f.code == "D50"] == ["D50"]
    assert not any(f.is_excluded for f in findings)


@pytest.mark.parametrize("size", [(16, 20), (11, 13), (8, 10)])
def test_small_lesions_survive_fewer_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    """Nearest neighbours erase small structures where an image shrinks.

    Source:
        github.com/TorchIO-project/torchio, pull request 1477; github.com/Britefury/
        cutmix-semisup-seg, issue 9.
    """
    mask = sum(ball(c, 0) for c in [(9, 11, 4), (20, 25, 8), (13, 30, 11)])
    assert isinstance(mask, np.ndarray)
    scan, _ = volume(tmp_path, mask, affine(), size=size)
    assert scan.loss is not None
    assert (scan.loss.n_lesions, scan.loss.n_lost_lesions) == (3, 0)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_smaller_image_is_no_pattern(tmp_path: Path, factor: int) -> None:
    """Resizing without smoothing first turned fine detail into false stripes.

    Source:
        github.com/Project-MONAI/MONAI, issue 4020.
    """
    picture = np.full((128, 128), 20, dtype=np.uint8)
    picture[16:112, 16:112] = 120
    picture[16:112, 16:112:2] = 220  # stripes of one pixel: 170 on average
    image, mask = tmp_path / "a.png", tmp_path / "m.png"
    Image.fromarray(picture).save(image)
    Image.fromarray((picture > 30).astype(np.uint8)).save(mask)
    scan, _ = prepared(tmp_path, (image, mask), size=(128 // factor, 128 // factor))
    inside = np.load(scan.image)[0][labels(scan)[0].numpy() > 0]
    middle = np.sort(inside)[len(inside) // 4 : -len(inside) // 4]
    assert middle.mean() == pytest.approx(170, abs=12)
    assert np.ptp(middle) < 40


@pytest.mark.parametrize(("shape", "size"), [((120, 60), (64, 64)), ((50, 80), (32, 64))])
def test_a_picture_keeps_its_aspect_ratio(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    """Resizing to a square stretched what was not one.

    Source:
        github.com/imedslab/solt, issue 75.
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    disc = (rows - shape[0] / 2) ** 2 + (columns - shape[1] / 2) ** 2 <= (0.4 * min(shape)) ** 2
    image, mask = tmp_path / "a.png", tmp_path / "m.png"
    Image.fromarray((40 + 160 * disc).astype(np.uint8)).save(image)
    Image.fromarray(disc.astype(np.uint8)).save(mask)
    scan, _ = prepared(tmp_path, (image, mask), size=size)
    height, width = (int(np.ptp(axis)) + 1 for axis in np.nonzero(labels(scan)[0].numpy()))
    assert scan.shape == (1, *size)
    assert height == pytest.approx(width, abs=1)


@pytest.mark.parametrize(("axis", "expected_mm"), [(0, 6.0), (1, 6.0), (2, 12.0)])
def test_distances_are_millimetres_of_the_scan(
    tmp_path: Path, axis: int, expected_mm: float
) -> None:
    """Hausdorff distances were in voxels, or wrong where voxels are not cubes.

    Source:
        github.com/Visceral-Project/EvaluateSegmentation, issue 1;
        github.com/InsightSoftwareConsortium/ITK, issue 5577.
    """
    plate = np.zeros(SHAPE, dtype=np.int16)
    plate[12:16, 16:20, 6:8] = 1
    scan, _ = volume(tmp_path, plate, affine(5.0), size=(40, 40))
    moved = torch.roll(labels(scan), 3, dims=(axis + 1) % 3)
    assert scores(scan, moved)["hd95_mm"] == pytest.approx(expected_mm)

"""The way from a scan's own grid to the prepared one, and back, where segmentations are scored."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance

from fedmri.config import load
from fedmri.data.batches.site_data import Split
from fedmri.data.preparation.geometry import Geometry, Grid
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import (
    Prepared,
    PreparedScan,
    read_site,
    write_label_losses,
    write_site,
)
from fedmri.data.preparation.regrid import one_hot, regrid, regrid_labels, restore
from fedmri.data.read import read
from fedmri.data.scans import Scan
from fedmri.data.settings import DataConfig, PrepareConfig, SourceConfig
from fedmri.errors import ConfigError
from fedmri.reports.label_losses import label_loss_sentences
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.masks import mask_scores

TUMOUR = Segmentation("mask", ("tumour",))
SHAPE = (40, 48, 20)
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, 0.1, -0.15) @ np.diag([2.0, 2.0, 5.0]), [-40, 12, 7]
)


def lesion(*sides: slice) -> np.ndarray:
    """Return a mask that is 1 in a box."""
    mask = np.zeros(SHAPE, dtype=np.int16)
    mask[sides] = 1
    return mask


BOX = lesion(slice(12, 20), slice(30, 37), slice(5, 12))


def head() -> np.ndarray:
    """Return a bright ellipsoid in noise-free air, brighter on one side."""
    x, y, z = np.ogrid[tuple(slice(n) for n in SHAPE)]
    inside = ((x - 19.5) / 16) ** 2 + ((y - 23.5) / 20) ** 2 + ((z - 9.5) / 9) ** 2 <= 1
    return np.asarray(inside * (100.0 + x + 2 * y), dtype=np.float32)


def turned(values: np.ndarray, affine: np.ndarray, code: str) -> nib.Nifti1Image:
    """Return an image stored in another order and direction of axes."""
    image = nib.Nifti1Image(values, affine)
    goal = nib.orientations.axcodes2ornt(tuple(code))
    own = nib.orientations.io_orientation(affine)
    there = image.as_reoriented(nib.orientations.ornt_transform(own, goal))
    assert isinstance(there, nib.Nifti1Image)
    return there


def prepared(
    folder: Path, mask: np.ndarray, affine: np.ndarray = AFFINE, code: str = "", **settings: Any
) -> PreparedScan:
    """Write a scan with its mask as NIfTI files and prepare it."""
    files = {}
    for name, values in (("FLAIR", head()), ("mask", mask)):
        image = nib.Nifti1Image(values, affine)
        image = turned(values, affine, code) if code else image
        files[name] = folder / f"{name}.nii.gz"
        nib.save(image, files[name])
    scan = Scan("north", "s1", "", {"FLAIR": files["FLAIR"]}, {"mask": files["mask"]})
    source = SourceConfig(modalities=("FLAIR",))
    config = DataConfig(source=source, prepare=PrepareConfig(scaling="none", **settings))
    done = prepare_scans([scan], TUMOUR, config, {"s1": "test"}, folder / "cache")
    assert done.scans, done.findings
    return done.scans[0]


def examples_labels(scan: PreparedScan) -> torch.Tensor:
    """Return the prepared label maps of a scan's examples."""
    assert scan.label is not None
    label = torch.from_numpy(np.load(scan.label))
    return label[None] if scan.slices is None else label[list(scan.slices)]


def scores(scan: PreparedScan, labels: torch.Tensor) -> dict[str, float]:
    """Score label maps as the prediction of a scan."""
    task = TUMOUR
    truth = examples_labels(scan)[:, None].long()
    return dict(task.read(labels, truth, list(scan.examples())).scores)


WAYS: list[dict[str, Any]] = [
    {},
    {"dimension": "2d"},
    {"dimension": "2d", "slice_axis": 0},
    {"dimension": "2d", "size": (48, 48)},
    {"dimension": "2.5d", "slice_axis": 1, "shape": (0, 40, 20)},
    {"shape": (48, 52, 24)},
]
CODES = ["".join(p) for p in permutations("RAS")] + ["LAS", "LPI", "PIR", "ILA"]


@pytest.mark.parametrize("settings", WAYS, ids=str)
@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE], ids=["straight", "oblique"])
def test_without_resampling_and_crop_the_way_back_is_exact(
    tmp_path: Path, affine: np.ndarray, settings: dict[str, Any]
) -> None:
    """Voxels are only moved: the label file comes back bit for bit, and nothing is lost."""
    scan = prepared(tmp_path, BOX, affine, **settings)
    own = next(scan.examples()).own
    assert own is not None
    assert np.array_equal(own.truth(), BOX)
    shares = np.stack([one_hot(label, 1) for label in examples_labels(scan).numpy()])
    assert np.array_equal(own.restored(shares), BOX)
    assert own.spacing_mm == pytest.approx((2, 2, 5))
    assert scan.loss is not None
    assert (scan.loss.n_lost, scan.loss.ceiling) == (0, 1.0)
    assert scan.geometry.own == scan.geometry.truth


@pytest.mark.parametrize("code", CODES)
def test_a_prediction_comes_back_in_the_order_of_the_file(tmp_path: Path, code: str) -> None:
    """Whatever the order and direction of axes, the truth is the file's, and so is the result."""
    scan = prepared(tmp_path, BOX, code=code, dimension="2d", size=(48, 48))
    own = next(scan.examples()).own
    assert own is not None
    stored = np.asarray(turned(BOX, AFFINE, code).dataobj)
    assert np.array_equal(own.truth(), stored)
    shares = np.stack([one_hot(label, 1) for label in examples_labels(scan).numpy()])
    assert np.array_equal(own.restored(shares), stored)


LOSSY: list[dict[str, Any]] = [
    {"dimension": "2d", "size": (20, 20)},
    {"dimension": "2d", "shape": (0, 16, 16)},
    {"dimension": "2d", "skip_first": 8},
    {"dimension": "2d", "n_slices": 7},
    {"spacing_mm": 3.5},
    {"size": (24, 24, 24), "shape": (20, 20, 20)},
]


@pytest.mark.parametrize("settings", LOSSY, ids=str)
@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE], ids=["straight", "oblique"])
def test_a_perfect_prediction_scores_the_ceiling(
    tmp_path: Path, affine: np.ndarray, settings: dict[str, Any]
) -> None:
    """No network reaches more with certainty than its own prepared truth, and it is below 1."""
    scan = prepared(tmp_path, BOX, affine, **settings)
    assert scan.loss is not None
    dice = scores(scan, examples_labels(scan))["dice"]
    assert dice == scan.loss.ceiling
    assert dice < 1
    logits = 200.0 * torch.stack([examples_labels(scan) == k for k in (0, 1)], 1)
    assert scores(scan, TUMOUR.predict(logits))["dice"] == dice


def test_what_was_cropped_away_counts_as_missed(tmp_path: Path) -> None:
    """A lesion outside the crop is not an empty truth, which would score 1, but a missed one."""
    corner = lesion(slice(0, 3), slice(0, 3), slice(0, 3))
    scan = prepared(tmp_path, corner, dimension="2d", shape=(0, 16, 16))
    labels = examples_labels(scan)
    assert not labels.any()
    found = scores(scan, labels)
    assert (found["dice"], found["n_missed"], found["n_both_empty"]) == (0, 1, 0)
    assert scan.loss is not None
    assert (scan.loss.share, scan.loss.n_lost_lesions, scan.loss.ceiling) == (1, 1, 0)


def test_distances_are_those_of_monai_on_the_scans_own_grid(tmp_path: Path) -> None:
    """Predicted 5 mm slices and 2 mm pixels away: mm of the file, not of the prepared grid."""
    scan = prepared(tmp_path, BOX, dimension="2d", size=(48, 48))
    labels = torch.roll(examples_labels(scan), (2, 3), dims=(0, 1))
    predicted = np.roll(BOX, (3, 0, 2), axis=(0, 1, 2))
    with warnings.catch_warnings():  # MONAI calls itself with an argument that it deprecates
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        expected = compute_hausdorff_distance(
            torch.from_numpy(predicted)[None, None],
            torch.from_numpy(BOX)[None, None],
            include_background=True,
            percentile=95,
            spacing=(2.0, 2.0, 5.0),
        )
    assert scores(scan, labels)["hd95_mm"] == float(expected)
    assert float(expected) == pytest.approx(math.hypot(6, 10), rel=0.3)


def test_scores_are_those_of_the_whole_truth(tmp_path: Path) -> None:
    """Half of a lesion is cropped away, the rest found: Dice 2 * 1/2 / (1 + 1/2)."""
    long = lesion(slice(16, 24), slice(8, 40), slice(8, 12))
    scan = prepared(tmp_path, long, dimension="2d", shape=(0, 40, 16))
    found = scores(scan, examples_labels(scan))
    assert found["dice"] == pytest.approx(2 / 3)
    assert scan.loss is not None
    assert scan.loss.share == pytest.approx(1 / 2)


def test_a_slice_stands_for_those_within_half_a_step(tmp_path: Path) -> None:
    """Every third slice is used: a column through all slices comes back whole."""
    column = lesion(slice(16, 24), slice(16, 24), slice(None))
    assert SHAPE[2] // 7 == 2
    scan = prepared(tmp_path, column, dimension="2d", n_slices=6)
    assert scan.slices == tuple(range(0, 20, 3))
    assert scan.loss is not None
    assert scan.loss.n_lost == 0
    scan = prepared(tmp_path, column, dimension="2d", n_slices=6, skip_last=1, skip_first=1)
    assert scan.loss is not None
    assert scan.loss.share == pytest.approx(1 - 15 / 20)  # 3 to 15, and one on each side


@pytest.mark.parametrize("factor", [2, 3, 4, 6])
def test_no_small_lesion_vanishes_because_pixels_grow(factor: int) -> None:
    """A lesion of one voxel has a voxel on the coarse grid and comes back where it was."""
    labels = np.zeros((48, 48, 12), dtype=np.uint8)
    places = [(5, 7, 2), (20, 31, 6), (40, 11, 9), (33, 44, 3)]
    for place in places:
        labels[place] = 1
    source = Grid.of(labels.shape, np.eye(4))
    coarse = Grid.of(
        [n // factor for n in labels.shape],
        nib.affines.from_matvec(np.eye(3) * factor, [(factor - 1) / 2] * 3),
    )
    small = regrid_labels(labels, source, coarse)
    assert small.sum() == len(places)
    back = restore(one_hot(small, 1), coarse, source)
    assert all(back[place] for place in places)


@pytest.mark.parametrize("factor", [1.3, 2.0, 3.7])
def test_shrinking_smooths_what_would_alias(factor: float) -> None:
    """Stripes of one pixel become their mean, not a false pattern."""
    stripes = np.zeros((64, 64, 1), dtype=np.float32)
    stripes[::2] = 1
    source = Grid.of(stripes.shape, np.eye(4))
    n = int(64 / factor)
    coarse = Grid.of([n, n, 1], np.diag([factor, factor, 1, 1]))
    plain = regrid(stripes, source, coarse, fill=0, is_smoothed=False)[4:-4]
    smooth = regrid(stripes, source, coarse, fill=0)[4:-4]
    assert smooth.mean() == pytest.approx(0.5, abs=0.08)
    if factor >= 2:
        assert smooth.std() < 0.25 * max(plain.std(), 0.2)


@pytest.mark.parametrize("settings", WAYS + LOSSY, ids=str)
def test_a_geometry_is_stored_and_read(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Its JSON gives the same value."""
    geometry = prepared(tmp_path, BOX, OBLIQUE, **settings).geometry
    assert Geometry.from_json(geometry.to_json()) == geometry


@pytest.mark.parametrize("size", [(20, 20), (30, 24), (96, 96), (48, 0)])
def test_a_size_is_a_number_of_pixels_as_long_as_wide(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """The prepared image has it, and no part of the head is cut."""
    scan = prepared(tmp_path, BOX, dimension="2d", size=size)
    wanted = tuple(n or own for n, own in zip(size, SHAPE, strict=False))
    assert scan.shape[2:] == wanted
    _, *spacing = scan.geometry.prepared.spacing_mm
    if all(size):
        assert spacing[0] == pytest.approx(spacing[1])
    step = scan.geometry.own.voxels_in(scan.geometry.prepared)
    places = np.argwhere(head() > 0) @ step[:3, :3].T + step[:3, 3]
    assert (places > -0.5).all()
    assert (places < np.array(scan.geometry.prepared.shape) - 0.5).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"size": (64, 64)},
        {"dimension": "2d", "size": (64, 64, 64)},
        {"dimension": "2d", "size": (64,)},
        {"dimension": "2d", "size": (64, -1)},
        {"dimension": "2d", "size": (64, 64), "spacing_mm": 2.0},
    ],
    ids=str,
)
def test_a_size_that_does_not_fit_is_refused(settings: dict[str, Any]) -> None:
    """Volumes want three numbers, slices two; a size decides the voxel size."""
    with pytest.raises(ConfigError, match="C01"):
        PrepareConfig(**settings)


def test_own_scores_are_mask_scores(tmp_path: Path) -> None:
    """A scan of slices on its own grid is scored as the volume in its file."""
    scan = prepared(tmp_path, BOX, dimension="2d", size=(20, 20))
    labels = examples_labels(scan)
    own = next(scan.examples()).own
    assert own is not None
    back = own.restored(np.stack([one_hot(label, 1) for label in labels.numpy()]))
    missed_mm = TUMOUR.missed_hd95_mm
    masks = [torch.from_numpy(values).bool() for values in (back, BOX)]
    assert scores(scan, labels) == mask_scores(masks[0], masks[1], (2.0, 2.0, 5.0), missed_mm)


def test_a_site_file_keeps_geometry_and_truth(tmp_path: Path) -> None:
    """The list of a site's scans alone is enough to score them on their own grid."""
    mask = lesion(slice(3, 6), slice(20, 26), slice(4, 9)) | BOX
    scan = prepared(tmp_path, mask, OBLIQUE, "PIR", dimension="2d", size=(20, 24))
    done = Prepared((scan,), (), "settings", tmp_path / "cache")
    write_site(tmp_path / "site.json", done)
    again = read_site(tmp_path / "site.json").scans[0]
    assert again.geometry == scan.geometry
    assert again.loss == scan.loss
    assert scores(again, examples_labels(again)) == scores(scan, examples_labels(scan))


def test_a_run_folder_and_its_report_say_what_is_lost(tmp_path: Path) -> None:
    """Mean, worst, and the number of scans that lose more than 1 %."""
    half = lesion(slice(16, 24), slice(8, 40), slice(8, 12))
    scans = []
    for name, shape in (("a", (0, 40, 48)), ("b", (0, 40, 16))):
        folder = tmp_path / name
        folder.mkdir()
        scans.append(replace(prepared(folder, half, dimension="2d", shape=shape), subject=name))
    file = tmp_path / "label_losses.tsv"
    write_label_losses(file, scans)
    said = " ".join(label_loss_sentences(file))
    assert "25.0 % of a scan's label on average and 50.0 % at worst" in said
    assert "1 of 2 scans lose more than 1 %, and 0 of 2 lesions vanish" in said
    assert "Dice 0.833 on average, the ceiling, and 0.667 at worst" in said
    assert label_loss_sentences(tmp_path / "none.tsv") == []


@pytest.mark.parametrize("experiment", ["lgg_tumour"])
def test_real_lesions_are_kept_under_an_experiment(tmp_path: Path, experiment: str) -> None:
    """At least 99 % of every tumour of TCGA-LGG comes back, with the settings that are shipped."""
    data = os.environ.get("FEDMRI_TEST_DATA")
    if not data:
        pytest.skip("FEDMRI_TEST_DATA is not set")
    plan = load([f"experiment={experiment}"]).plan
    source = replace(plan.data.source, path=str(Path(data) / "lgg-bids"))
    scans = read(source).scans[::8]
    splits: dict[str, Split] = {scan.subject: "test" for scan in scans}
    config = replace(plan.data, source=source)
    done = prepare_scans(scans, plan.target, config, splits, tmp_path)
    losses = [scan.loss for scan in done.scans if scan.loss is not None]
    assert len(losses) == len(scans)
    assert max(loss.share for loss in losses) <= 0.01
    assert sum(loss.n_lost_lesions for loss in losses) == 0

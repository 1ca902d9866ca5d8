"""The embedded data set: a BIDS folder of hospitals that differ, its bits decided by the seed."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import os
import re
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import label

from fedmri.data.synthetic import data_set as synthetic
from fedmri.data.synthetic.anatomy import Grid, _distance, _near, make_head
from fedmri.data.synthetic.data_set import Patient, SyntheticConfig, ensure, generate
from fedmri.data.synthetic.lesions import LESIONS, Lesion, make_lesion
from fedmri.data.synthetic.scanner import (
    MODELS,
    TISSUES,
    Scanner,
    limit_resolution,
    rician,
    signals,
)
from fedmri.errors import ConfigError, DataError
from tests.conftest import forked

SMALL = SyntheticConfig(n_sites=2, n_subjects=3, spacing_mm=6.0)
GRID = Grid.around_head(6.0)
FINE = Grid.around_head(4.0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two hospitals with three and four patients."""
    path = tmp_path_factory.mktemp("synthetic") / "bids"
    generate(path, SMALL, 7)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a data set's subject table."""
    with (path / "participants.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def hashes_of(path: Path) -> dict[str, str]:
    """SHA-256 of every file by its path inside the folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(f.relative_to(path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def image_of(path: Path, name: str, suffix: str) -> nib.Nifti1Image:
    """Open an image, or the mask that lies among the derivatives."""
    root = path / "derivatives" / "lesions" if suffix == "mask" else path
    image = nib.load(root / name / "anat" / f"{name}_{suffix}.nii.gz")
    assert isinstance(image, nib.Nifti1Image)
    return image


def voxels_of(image: nib.Nifti1Image) -> np.ndarray:
    """Voxels of an image with its axes to the right, front and top."""
    return np.asarray(nib.as_closest_canonical(image).dataobj)


def test_tables_name_every_patient_and_declare_every_column(small: Path) -> None:
    """Each patient of the table has a folder, and participants.json describes each column."""
    rows = rows_of(small)
    assert [row["participant_id"] for row in rows] == sorted(p.name for p in small.glob("sub-*"))
    described = json.loads((small / "participants.json").read_text())
    assert set(rows[0]) == {"participant_id", *described}
    assert {row["site"] for row in rows} == {"site01", "site02"}
    assert {row["lesion"] for row in rows} == set(LESIONS)
    for folder in (small, small / "derivatives" / "lesions"):
        assert json.loads((folder / "dataset_description.json").read_text())["BIDSVersion"]


def test_every_file_has_a_bids_name(small: Path) -> None:
    """A patient has a T1w and a FLAIR with sidecars, and a mask among the derivatives."""
    names = [name for name in hashes_of(small) if "sub-" in name]
    pattern = r"(derivatives/lesions/)?(sub-\d{5})/anat/\2_(T1w|FLAIR|mask)\.(nii\.gz|json)"
    assert all(re.fullmatch(pattern, name) for name in names)
    assert len(names) == 5 * len(rows_of(small))


def test_hospitals_have_a_half_to_one_and_a_half_of_the_mean_size() -> None:
    """Five hospitals of 24 on average have 24, 36, 18, 30 and 12 patients: 120 together."""
    sizes = [len(list(synthetic._patients(index, 24, 0))) for index in range(5)]
    assert sizes == [24, 36, 18, 30, 12]


def test_same_seed_same_bytes(small: Path, tmp_path: Path) -> None:
    """A seed decides every byte, whatever the time and the number of threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1 if n_threads > 1 else 2)
    generate(tmp_path / "again", SMALL, 7)
    torch.set_num_threads(n_threads)
    assert hashes_of(tmp_path / "again") == hashes_of(small)


def test_another_seed_gives_other_patients(small: Path, tmp_path: Path) -> None:
    """No image survives a change of the seed."""
    generate(tmp_path / "other", SyntheticConfig(n_sites=1, n_subjects=3, spacing_mm=6.0), 8)
    images = {h for name, h in hashes_of(small).items() if name.endswith(".nii.gz")}
    others = {h for name, h in hashes_of(tmp_path / "other").items() if name.endswith(".nii.gz")}
    assert len(others) == 9
    assert not images & others


def test_further_hospitals_leave_the_first_as_they_are(small: Path, tmp_path: Path) -> None:
    """A data set of one hospital holds the same patients as that hospital among two."""
    generate(tmp_path / "one", SyntheticConfig(n_sites=1, n_subjects=3, spacing_mm=6.0), 7)
    alone = {n: h for n, h in hashes_of(tmp_path / "one").items() if "sub-" in n}
    assert len(alone) == 15
    assert alone.items() <= hashes_of(small).items()


def test_masks_lie_on_their_images(small: Path) -> None:
    """A mask has its images' shape and affine, is neither empty nor large, and holds 0 and 1."""
    for row in rows_of(small):
        name = row["participant_id"]
        mask = image_of(small, name, "mask")
        for modality in ("T1w", "FLAIR"):
            image = image_of(small, name, modality)
            assert image.shape == mask.shape
            np.testing.assert_array_equal(image.affine, mask.affine)
        voxels = voxels_of(mask)
        assert set(np.unique(voxels)) == {0, 1}
        volume_ml = voxels.sum() * np.prod(mask.header.get_zooms()) / 1000
        assert 0.5 < volume_ml < 80


def test_files_are_stored_as_the_scanner_stores_them(small: Path) -> None:
    """Axes of a file are its scanner's; the sidecar names make, field and sequence."""
    makes = {scanner.name: scanner for scanner in MODELS}
    for row in rows_of(small):
        image = image_of(small, row["participant_id"], "T1w")
        scanner = makes[row["scanner"]]
        assert "".join(nib.aff2axcodes(image.affine)) == scanner.orientation
        name = row["participant_id"]
        sidecar = json.loads((small / name / "anat" / f"{name}_FLAIR.json").read_text())
        assert sidecar["MagneticFieldStrength"] == float(row["field_tesla"]) == scanner.field_tesla
        assert 2.0 < sidecar["InversionTime"] < 3.0  # seconds, as BIDS wants


@pytest.mark.parametrize("kind", LESIONS)
@pytest.mark.parametrize("age", [20.0, 90.0])
def test_lesions_lie_in_the_brain(kind: str, age: float) -> None:
    """At every age a lesion of each kind has its place, and none of it lies outside the brain."""
    random = np.random.default_rng(3)
    head = make_head(GRID, age, random)
    lesion = make_lesion(kind, head, random)
    extent = lesion.solid + lesion.core
    brain = head.tissues["grey"] + head.tissues["white"]
    assert extent.max() > 0.5
    assert brain[extent >= 0.5].min() > 1 / 3  # the share at which a lesion may fill half a voxel


def test_kinds_differ_in_shape() -> None:
    """A mass and a wedge are one piece, spots are many; a wedge alone reaches the surface."""
    n_parts, depth_mm = {}, {}
    for kind in LESIONS:
        random = np.random.default_rng(5)
        head = make_head(FINE, 40.0, random)
        lesion: Lesion = make_lesion(kind, head, random)
        inside = lesion.solid + lesion.core > 0.5
        parts, _ = label(inside)
        n_parts[kind] = int((np.bincount(parts.ravel())[1:] >= 4).sum())
        depth_mm[kind] = float(head.depth_mm[inside].min())
    assert n_parts["mass"] == n_parts["wedge"] == 1
    assert n_parts["spots"] >= 5
    assert depth_mm["wedge"] < min(depth_mm["mass"], depth_mm["spots"])


def test_age_shows_in_the_fluid() -> None:
    """Fluid rises with age, with scatter, on the surface (sulci) and in the middle (ventricles)."""
    random = np.random.default_rng(0)
    ages = np.linspace(20, 88, 18)
    surface, middle = [], []
    for age in ages:
        head = make_head(GRID, float(age), random)
        is_deep = head.depth_mm > 24.0
        surface.append(head.tissues["csf"][~is_deep].sum())
        middle.append(head.tissues["csf"][is_deep & (head.ventricle_mm < 6.0)].mean())
    for fluid in (surface, middle):
        assert 0.7 < float(np.corrcoef(ages, fluid)[0, 1]) < 0.999


def test_tissues_never_fill_more_than_a_voxel() -> None:
    """Shares of tissue are 0 to 1 and add up to at most 1, but for interpolated edges."""
    head = make_head(GRID, 60.0, np.random.default_rng(1))
    total = np.sum(list(head.tissues.values()), axis=0)
    assert min(float(share.min()) for share in head.tissues.values()) >= 0
    assert float(total.max()) < 1.02


def test_sites_differ_and_a_simple_rule_tells_them(small: Path) -> None:
    """The nearest mean of three image statistics names the hospital of every left-out patient."""
    rows = rows_of(small)
    features, sites = [], np.array([row["site"] for row in rows])
    for row in rows:
        voxels = voxels_of(image_of(small, row["participant_id"], "FLAIR")).astype(float)
        head = voxels[voxels > voxels.mean()]
        air = voxels[voxels < np.quantile(voxels, 0.2)]
        features.append([math.log(np.median(head)), air.mean() / np.median(head)])
    scaled = (np.array(features) - np.mean(features, axis=0)) / np.std(features, axis=0)
    for left_out, site in enumerate(sites):
        others = np.arange(len(sites)) != left_out
        means = {s: scaled[others & (sites == s)].mean(axis=0) for s in set(sites)}
        assert min(means, key=lambda s: float(np.linalg.norm(scaled[left_out] - means[s]))) == site


def test_air_obeys_the_rician_law() -> None:
    """Without signal the magnitude has mean sigma sqrt(pi/2) and power 2 sigma^2."""
    sigma = 0.3
    air = rician(np.zeros((40, 40, 40), np.float32), sigma, np.random.default_rng(0))
    # 64 000 voxels: a standard error of the mean of 0.26 % of it, so 1 % is four of them
    assert air.mean() == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.01)
    assert (air**2).mean() == pytest.approx(2 * sigma**2, rel=0.02)


def test_the_noise_floor_of_an_image_is_its_scanners(tmp_path: Path) -> None:
    """In a written image the air above the head has the mean that noise and gain predict."""
    patient = next(synthetic._patients(0, 3, 7))
    synthetic._write_patient(tmp_path, patient, FINE)
    voxels = voxels_of(image_of(tmp_path, patient.name, "T1w"))
    air = voxels[:6, :, -10:].astype(float)  # beside the crown: 3 480 voxels, standard error 0.9 %
    scanner = patient.scanner
    assert air.mean() == pytest.approx(
        scanner.noise * scanner.gain * math.sqrt(math.pi / 2), rel=0.05
    )


@pytest.mark.parametrize("scanner", MODELS, ids=lambda scanner: scanner.name)
def test_contrasts_are_those_of_the_sequences(scanner: Scanner) -> None:
    """T1w orders white, grey, fluid; FLAIR puts grey above white and fluid below both."""
    tissues = TISSUES[scanner.field_tesla]
    t1w, flair = (signals(scanner, modality, tissues) for modality in ("T1w", "FLAIR"))
    assert t1w["white"] > t1w["grey"] > t1w["csf"]
    assert flair["grey"] > flair["white"] > flair["csf"]


def test_fluid_is_nulled_at_its_inversion_time() -> None:
    """At TI = T1 (ln 2 - ln(1 + exp(-TR / T1))) the inverted fluid crosses zero."""
    fluid = TISSUES[3.0]["csf"]
    null_ms = fluid.t1_ms * (math.log(2) - math.log(1 + math.exp(-9000 / fluid.t1_ms)))
    scanner = dataclasses.replace(MODELS[0], flair_ti_ms=null_ms)
    assert signals(scanner, "FLAIR", {"csf": fluid})["csf"] == pytest.approx(0, abs=1e-12)


def test_a_smaller_matrix_keeps_the_mean_and_the_smooth_parts() -> None:
    """Leaving out the edge of k-space changes neither the mean nor a wave that it still holds."""
    x = np.arange(24, dtype=np.float32)
    wave = np.broadcast_to(
        (2 + np.cos(2 * np.pi * x / 24)).astype(np.float32)[:, None, None], (24, 16, 16)
    )
    coarse = limit_resolution(np.ascontiguousarray(wave), (2.0, 1.0, 1.0))
    assert coarse.shape == (12, 16, 16)
    np.testing.assert_allclose(coarse[:, 0, 0], wave[::2, 0, 0], atol=1e-5)


def test_ensure_generates_once(tmp_path: Path) -> None:
    """The second call returns the same folder without touching it; another seed has its own."""
    config = SyntheticConfig(n_sites=1, n_subjects=2, spacing_mm=8.0)
    folder = ensure(tmp_path, config, 1)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    assert ensure(tmp_path, config, 1) == folder
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    assert ensure(tmp_path, config, 2) != folder


def test_a_killed_generation_is_never_taken_for_complete(tmp_path: Path) -> None:
    """After SIGKILL at the second patient no data set is there; the next call makes it whole."""
    write = synthetic._write_patient

    def die(path: Path, patient: Patient, grid: Grid) -> None:
        if patient.name.endswith("2"):
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, patient, grid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "_write_patient", die)
        maker = forked(lambda: ensure(tmp_path, SyntheticConfig(1, 2, 8.0), 1))
    assert os.waitpid(maker, 0)[1] == signal.SIGKILL
    assert list(tmp_path.rglob("*_T1w.nii.gz"))  # it had begun
    assert not list(tmp_path.glob("synthetic-*"))
    folder = ensure(tmp_path, SyntheticConfig(1, 2, 8.0), 1)
    assert len(list(folder.glob("sub-*/anat/*_T1w.nii.gz"))) == 2


def test_a_failed_generation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error, such as a full disk, removes what was begun."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "_write_patient", fail)
    with pytest.raises(OSError, match="No space left"):
        ensure(tmp_path, SMALL, 1)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    """Nothing is written among files that are there already."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="D70"):
        generate(tmp_path, SMALL, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("n_sites", (0, 24, 3.0)),
        ("n_sites", (100, 24, 3.0)),
        ("n_subjects", (5, 1, 3.0)),
        ("spacing_mm", (5, 24, 1.0)),
        ("spacing_mm", (5, 24, 9.0)),
    ],
)
def test_sizes_are_checked_where_they_are_set(name: str, sizes: tuple[int, int, float]) -> None:
    """A size that cannot be generated is refused by name."""
    with pytest.raises(ConfigError, match=f"synthetic.{name}"):
        SyntheticConfig(*sizes)


@pytest.mark.parametrize("reach_mm", [2.5, 5.0, 13.0])
def test_near_distances_are_those_of_an_exact_transform(reach_mm: float) -> None:
    """Up to the reach they have its bits; beyond it they are infinite."""
    inside = np.random.default_rng(0).random((20, 24, 28)) < 0.995
    inside[:, :, 18:] = True
    exact = _distance(inside)
    near = _near(inside, reach_mm)
    assert near.tolist() == np.where(exact <= reach_mm, exact, np.inf).tolist()
    assert np.isinf(near).any()

"""What a model predicts lies where the scan lies, and no scan goes without a word."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from fedmri.data.files.volume import load_image
from fedmri.errors import ConfigError, UsageError
from fedmri.models.weights import digest
from fedmri.trained.model import TrainedModel
from fedmri.trained.predict import PredictOptions
from fedmri.trained.scoring import ScoreOptions
from tests.reports_of_others.dicom_files import series
from tests.trained.conftest import Train, images, labels, turned

OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, -0.2, 0.25), [5.0, -7.0, 11.0])


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a TSV."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def of_one_class(model: TrainedModel) -> TrainedModel:
    """Return the model with a last layer that calls every voxel the first class."""
    weights = {name: value.clone() for name, value in model.file.weights.items()}
    for name in model.card.entries.head:
        weights[name].zero_()
        if weights[name].ndim == 1:
            weights[name][1] = 1e4  # what else the network adds to its output counts for nothing
    card = replace(model.card, sha256=digest(weights))
    return TrainedModel(replace(model.file, weights=weights, card=card))


@pytest.mark.parametrize("kind", ["own", "mask"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA"])
def test_a_mask_lies_on_the_files_own_grid(
    train: Train, hospitals: Path, tmp_path: Path, codes: str, kind: str
) -> None:
    """However a file orders its axes, the mask has its shape and affine, and the same voxels.

    So it is where the model resamples too. There, voxels lie at the very edge of the model's field
    and half way between its voxels, and rounding must not decide.
    """
    path = images(hospitals, "FLAIR")[0]
    other = turned(path, tmp_path / "scans" / "sub-7_FLAIR.nii.gz", codes)
    model = train(kind).model
    plain, own = model.predict(path), model.predict(other, out=tmp_path / "out")
    mask, scan = labels(own.files[0]), labels(other)
    assert np.array_equal(mask.affine, scan.affine)
    assert mask.shape == scan.shape
    axes = "".join(nib.aff2axcodes(labels(path).affine))
    back = turned(own.files[0], tmp_path / "back.nii.gz", axes)
    assert plain.predicted[0].mask is not None
    assert plain.predicted[0].mask.any()
    assert np.array_equal(np.asarray(labels(back).dataobj), plain.predicted[0].mask)


def test_an_oblique_scan_keeps_its_own_affine_and_forms(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """No axis of the scan is one of the world's: sform and qform are those of the file."""
    path = turned(images(hospitals, "FLAIR")[0], tmp_path / "sub-7_FLAIR.nii.gz", "LSA", OBLIQUE)
    found = train("nyul").model.predict(path, out=tmp_path / "out")
    mask, scan = labels(found.files[0]), labels(path)
    for form in ("get_sform", "get_qform"):
        assert np.array_equal(getattr(mask, form)(), getattr(scan, form)())
    assert mask.shape == scan.shape
    assert mask.get_data_dtype() == np.uint8


def test_nothing_of_a_patient_in_a_header_is_handed_on(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Converters leave names in the description and in extensions; a mask has neither."""
    scan = labels(images(hospitals, "FLAIR")[0])
    scan.header["descrip"] = b"Doe^Jane"
    scan.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^Jane 1970"))
    nib.save(scan, tmp_path / "sub-7_FLAIR.nii.gz")
    out = tmp_path / "out"
    found = train("mask").model.predict(tmp_path / "sub-7_FLAIR.nii.gz", out=out)
    assert b"Doe" not in gzip.decompress(found.files[0].read_bytes())


def test_a_folder_of_predictions_is_a_derivative(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Dataset description, sidecars, a table of classes, and probabilities that sum to one."""
    paths = images(hospitals, "FLAIR")[:2]
    options = PredictOptions(has_probabilities=True)
    model = train("mask").model
    found = model.predict(*paths, out=tmp_path / "out", options=options)
    said = json.loads((tmp_path / "out/dataset_description.json").read_text())
    assert (said["DatasetType"], said["GeneratedBy"][0]["Name"]) == ("derivative", "fedmri")
    mask, *shares = found.files[:3]
    assert mask.name == f"{paths[0].name.removesuffix('_FLAIR.nii.gz')}_desc-lesionmask_dseg.nii.gz"
    assert [path.name.rpartition("_")[2] for path in shares] == ["probseg.nii.gz"] * 2
    values = [np.asarray(labels(path).dataobj) for path in shares]
    assert np.allclose(sum(values), 1, atol=1e-5)
    sidecar = json.loads(mask.with_name(mask.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["Labels"] == {"1": "lesion"}
    assert sidecar["ModelSHA256"] == model.card.sha256
    assert table(tmp_path / "out/desc-lesionmask_dseg.tsv")[1] == {"index": "1", "name": "lesion"}
    volume = np.count_nonzero(np.asarray(labels(mask).dataobj)) * np.prod(
        nib.affines.voxel_sizes(labels(mask).affine)
    )
    [row] = [r for r in table(tmp_path / "out/predictions.tsv") if r["file"].endswith(mask.name)]
    assert float(row["volume_ml_lesion"]) == pytest.approx(volume / 1000, rel=1e-5)


def test_a_data_set_without_a_table_and_without_labels_is_predicted_on(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """A scan to a tensor needs no target: neither masks, nor a column, nor a site."""
    subjects = sorted(hospitals.glob("sub-*"))[:3]
    for subject in subjects:
        shutil.copytree(subject, tmp_path / "bids" / subject.name)
    for name, column in (("mask", ""), ("kind", "lesion"), ("age", "age")):
        found = train(name).model.predict(tmp_path / "bids", out=tmp_path / name)
        assert [one.input.name for one in found] == [subject.name for subject in subjects]
        if column:
            rows = table(tmp_path / name / "participants.tsv")
            assert [row["participant_id"] for row in rows] == [s.name for s in subjects]
            assert all(row[column] for row in rows)


@pytest.mark.parametrize("more", [(), ("harmonize=nyul",)], ids=["plain", "nyul"])
def test_classes_are_those_that_the_run_scored(
    train: Train, hospitals: Path, more: tuple[str, ...]
) -> None:
    """A test patient's probabilities by predict are those in the run's cases."""
    run = train("kind", *more)
    cases = [
        json.loads(line)
        for path in sorted((run.folder / "cases/federated/seed-0").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    paths = [next(hospitals.glob(f"sub-{case['subject']}/anat/*_T1w.nii.gz")) for case in cases]
    found = {case.subject: case.prediction for case in run.model.predict(*paths).patients}
    assert set(found) == {case["subject"] for case in cases}
    for case in cases:
        assert found[case["subject"]] == pytest.approx(case["prediction"], abs=1e-6)


def of_a_tenth(model: TrainedModel, path: Path) -> TrainedModel:
    """Return the model with a last layer that calls a tenth of a scan's voxels the first class."""
    [one] = model.predict(path, options=PredictOptions(is_cropped=True, has_probabilities=True))
    assert one.shares is not None
    seen = one.shares[:, one.shares[0] < 1]  # what was cropped away is certain
    shift = -np.quantile(np.log(seen[1] / seen[0]), 0.9)
    weights = {name: value.clone() for name, value in model.file.weights.items()}
    [bias] = [name for name in model.card.entries.head if weights[name].ndim == 1]
    weights[bias][1] += float(shift)
    card = replace(model.card, sha256=digest(weights))
    return TrainedModel(replace(model.file, weights=weights, card=card))


@pytest.mark.parametrize("name", ["mask", "nyul", "slices"])
def test_masks_are_those_that_are_scored(
    train: Train, hospitals: Path, cache: Path, name: str
) -> None:
    """The Dice of a mask on its own grid is that of `fedmri score`, for each patient."""
    paths = images(hospitals, "FLAIR")[:6]
    model = of_a_tenth(train(name).model, paths[0])
    names = [path.name.split("_")[0].removeprefix("sub-") for path in paths]
    scored = model.score(hospitals, ScoreOptions(patients=names, cache=cache))
    wanted = {c.subject: c.scores["dice"] for cases in scored.cases.values() for c in cases}
    found = {}
    for one in model.predict(*paths, options=PredictOptions(is_cropped=True)):
        subject = one.input.scan.subject
        drawn = next(hospitals.glob(f"derivatives/*/sub-{subject}/anat/*_mask.nii.gz"))
        truth = np.asarray(labels(drawn).dataobj) > 0
        assert one.mask is not None
        mine = one.mask == 1
        found[subject] = float(2 * (mine & truth).sum() / (mine.sum() + truth.sum()))
    assert found == wanted
    assert max(found.values()) > 0


def padded(path: Path, target: Path, n_voxels: int) -> Path:
    """Write an image again with air all around it."""
    scan = labels(path)
    values = np.pad(np.asarray(scan.dataobj), n_voxels)
    affine = scan.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, n_voxels)
    nib.save(nib.Nifti1Image(values, affine), target)
    return target


def test_a_window_goes_over_a_volume_that_is_larger_than_the_patch(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """A model that calls all voxels lesion marks the whole scan; cropped, the patch alone."""
    model = of_one_class(train("mask").model)
    path = padded(images(hospitals, "FLAIR")[0], tmp_path / "sub-7_FLAIR.nii.gz", 12)
    [whole] = model.predict(path)
    [cropped] = model.predict(path, options=PredictOptions(is_cropped=True))
    assert (whole.is_windowed, cropped.is_windowed) == (True, False)
    assert whole.mask is not None
    assert cropped.mask is not None
    assert whole.mask[1:-1, 1:-1, 1:-1].all()  # a rim of half a coarse voxel is outside
    patch_mm = 16 * 12.0
    sides = [np.ptp(places) + 1 for places in np.nonzero(cropped.mask)]
    mm = nib.affines.voxel_sizes(np.array(cropped.grid.affine))
    assert all(side * size <= patch_mm + size for side, size in zip(sides, mm, strict=True))
    assert not cropped.mask.all()


def test_a_scan_that_fits_the_patch_is_looked_at_once(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """What training saw whole is predicted on as it was scored: no window changes the mask."""
    scan = labels(images(hospitals, "FLAIR")[0])
    small = np.asarray(scan.dataobj)[3:-3, 5:-5, 3:-3]
    nib.save(nib.Nifti1Image(small, scan.affine), tmp_path / "sub-7_FLAIR.nii.gz")
    masks = [
        train("mask").model.predict(tmp_path / "sub-7_FLAIR.nii.gz", options=options).predicted[0]
        for options in (PredictOptions(), PredictOptions(is_cropped=True))
    ]
    assert not masks[0].is_windowed
    assert masks[0].mask is not None
    assert masks[1].mask is not None
    assert np.array_equal(masks[0].mask, masks[1].mask)


def test_slices_are_put_together_on_the_scans_own_grid(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """A network of slices that calls all pixels lesion marks every voxel of the scan."""
    path = turned(images(hospitals, "FLAIR")[0], tmp_path / "sub-7_FLAIR.nii.gz", "AIL")
    [one] = of_one_class(train("slices").model).predict(path)
    assert one.mask is not None
    assert one.mask.shape == labels(path).shape
    assert one.mask.mean() > 0.9  # the field of view of slices leaves out air


def test_dicom_goes_in_and_nifti_comes_out(train: Train, tmp_path: Path) -> None:
    """The mask of a series lies on the grid of its slices, named as its folder is."""
    series(tmp_path / "A" / "p1", 3)
    found = train("nyul").model.predict(tmp_path / "A" / "p1", out=tmp_path / "out")
    assert found.left_out == ()
    voxels, affine = load_image(tmp_path / "A" / "p1")
    mask = labels(found.files[0])
    assert found.files[0].name == "sub-p1_desc-lesionmask_dseg.nii.gz"
    assert mask.shape == voxels.shape
    assert np.allclose(mask.affine, affine, atol=1e-4)


def test_a_dicom_folder_can_be_named_as_a_modality(train: Train, tmp_path: Path) -> None:
    """Where the header's words say nothing, a person says which modality a series is."""
    series(tmp_path / "A" / "p1", 3, says="foo")
    named = {"FLAIR": tmp_path / "A" / "p1"}
    found = train("mask").model.predict(modalities=named, out=tmp_path / "out")
    assert [one.input.name for one in found] == ["sub-p1"]


def test_a_picture_gets_a_picture(train: Train, hospitals: Path, tmp_path: Path) -> None:
    """The mask of a slice that was exported has the pixels of the file."""
    volume = np.asarray(labels(images(hospitals, "FLAIR")[0]).dataobj, dtype=float)
    plane = volume[:, :, volume.shape[2] // 2]
    gray = (255 * plane / plane.max()).astype(np.uint8)
    Image.fromarray(gray).save(tmp_path / "slice 4.png")
    found = train("slices").model.predict(tmp_path / "slice 4.png", out=tmp_path / "out")
    assert [path.name for path in found.files] == ["sub-slice4_desc-lesionmask_dseg.png"]
    with Image.open(found.files[0]) as mask:
        assert mask.size == gray.shape[::-1]


def test_one_slice_of_a_volume_has_a_volume(train: Train, hospitals: Path, tmp_path: Path) -> None:
    """Its voxels have a size: to count them as pixels would give cubic millimetres."""
    path = images(hospitals, "FLAIR")[0]
    image = labels(path)
    middle = image.shape[2] // 2
    flat = np.asarray(image.dataobj)[:, :, middle : middle + 1]
    nib.save(nib.Nifti1Image(flat, image.affine), tmp_path / "sub-1_FLAIR.nii.gz")
    found = train("mask").model.predict(tmp_path / "sub-1_FLAIR.nii.gz", out=tmp_path / "out")
    with (tmp_path / "out/predictions.tsv").open(encoding="utf-8") as file:
        [row] = csv.DictReader(file, delimiter="\t")
    n_voxels = int(np.asarray(labels(found.files[0]).dataobj).sum())
    each_ml = abs(float(np.linalg.det(image.affine[:3, :3]))) / 1000
    assert float(row["volume_ml_lesion"]) == pytest.approx(n_voxels * each_ml)


def test_a_picture_is_nothing_for_a_model_of_volumes(train: Train, tmp_path: Path) -> None:
    """It is left out by name, and ends nothing."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "4.png")
    [gone] = train("mask").model.predict(tmp_path / "4.png").left_out
    assert (gone.name, gone.code) == ("sub-4", "C03")


def test_a_device_that_is_not_there_ends_the_command(train: Train, hospitals: Path) -> None:
    """No scan is to blame for it."""
    options = PredictOptions(device="cuda:77")
    with pytest.raises(ConfigError, match=r"\[C23\]"):
        train("mask").model.predict(images(hospitals, "FLAIR")[0], options=options)


@pytest.fixture(scope="module")
def two(train: Train) -> TrainedModel:
    """Return a model of two modalities, of which one may be missing."""
    return train("mask", "data.source.modalities=[T1w,FLAIR]").model


def test_modalities_are_told_by_name(two: TrainedModel, hospitals: Path) -> None:
    """Files with BIDS names, and files that are named by hand, give one mask."""
    subject = images(hospitals, "FLAIR")[0].parent
    files = [next(subject.glob(f"*_{name}.nii.gz")) for name in ("FLAIR", "T1w")]
    by_name, by_hand = (
        two.predict(*files),
        two.predict(modalities={"FLAIR": files[0], "T1w": files[1]}),
    )
    assert len(by_name) == len(by_hand) == 1
    assert by_name.predicted[0].mask is not None
    assert by_hand.predicted[0].mask is not None
    assert np.array_equal(by_name.predicted[0].mask, by_hand.predicted[0].mask)


def test_a_missing_modality_is_told(two: TrainedModel, hospitals: Path) -> None:
    """Zeros stand in for it, as in training, and the prediction says so."""
    [one] = two.predict(images(hospitals, "FLAIR")[0])
    assert ("D24", "T1w missing: zeros stand in for it") in one.remarks


def test_a_modality_that_the_model_does_not_read_is_refused(two: TrainedModel) -> None:
    """A wrong name is a mistake of the command, not of a scan."""
    with pytest.raises(UsageError, match=r"T2w, want among T1w, FLAIR.*\[U01\]"):
        two.predict(modalities={"T2w": "scan.nii.gz"})


def odd_scans(folder: Path, good: Path) -> list[Path]:
    """Write scans of which none can be used, each for another reason, and a good one at the end."""
    scan = labels(good)
    values = np.asarray(scan.dataobj, dtype=np.float32)
    made = {
        "constant": np.ones_like(values),
        "infinite": np.where(values > values.mean(), np.inf, values),
    }
    for name, voxels in made.items():
        nib.save(nib.Nifti1Image(voxels, scan.affine), folder / f"{name}.nii.gz")
    (folder / "garbage.nii.gz").write_bytes(b"no image at all")
    (folder / "notes.txt").write_text("no image")
    names = ("constant.nii.gz", "infinite.nii.gz", "garbage.nii.gz", "notes.txt", "missing.nii.gz")
    return [*(folder / name for name in names), good]


def test_one_bad_scan_ends_nothing_and_is_named(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Each scan that cannot be used is in the table with its code, and the good one has a mask."""
    paths = odd_scans(tmp_path, images(hospitals, "FLAIR")[0])
    found = train("mask").model.predict(*paths, out=tmp_path / "out")
    assert len(found) == 1
    codes = {one.name: one.code for one in found.left_out}
    assert codes == {
        "sub-constant": "D10",
        "sub-infinite": "D09",
        "sub-garbage": "D07",
        "notes.txt": "D84",
        str(paths[4]): "D84",
    }
    rows = table(tmp_path / "out/predictions.tsv")
    assert {row["scan"]: row["codes"] for row in rows if row["status"] == "left out"} == codes
    assert found.files[0].exists()


def test_a_scan_unlike_those_of_training_is_answered_with_a_warning(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Voxels a third as long, a T1w image under a FLAIR model's name, and CT numbers."""
    model = train("mask").model
    flair, t1w = images(hospitals, "FLAIR")[0], images(hospitals, "T1w")[0]
    assert model.predict(flair).predicted[0].remarks == ()
    scan = labels(flair)
    small = scan.affine @ np.diag([1 / 3, 1 / 3, 1 / 3, 1])
    nib.save(nib.Nifti1Image(np.asarray(scan.dataobj), small), tmp_path / "sub-1_FLAIR.nii.gz")
    shutil.copyfile(t1w, tmp_path / "sub-2_FLAIR.nii.gz")
    paths = [tmp_path / f"sub-{n}_FLAIR.nii.gz" for n in (1, 2)]
    found = [{code for code, _ in one.remarks} for one in model.predict(*paths, t1w)]
    assert {"D80", "D81"} <= found[0]
    assert "D82" in found[1]
    assert {"D24", "D82"} <= found[2]  # which its name says too


def test_a_deployed_models_file_knows_no_training_scans_and_says_less(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Without ranges, the plan's own numbers and landmarks are what a scan is held against."""
    model = train("nyul").model
    model = TrainedModel(replace(model.file, card=replace(model.card, ranges=None)))
    scan = labels(images(hospitals, "FLAIR")[0])
    large = scan.affine @ np.diag([4, 4, 4, 1])
    nib.save(nib.Nifti1Image(np.asarray(scan.dataobj), large), tmp_path / "sub-1_FLAIR.nii.gz")
    [one] = model.predict(tmp_path / "sub-1_FLAIR.nii.gz")
    assert {"D80", "D81"} <= {code for code, _ in one.remarks}
    assert model.predict(images(hospitals, "FLAIR")[0]).predicted[0].remarks == ()


def test_scans_of_one_name_do_not_write_over_each_other(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Two hospitals have a scan.nii.gz each."""
    for place, path in zip(("a", "b"), images(hospitals, "FLAIR"), strict=False):
        (tmp_path / place).mkdir()
        shutil.copyfile(path, tmp_path / place / "scan.nii.gz")
    found = train("mask").model.predict(
        *(tmp_path / place / "scan.nii.gz" for place in "ab"), out=tmp_path / "out"
    )
    assert len(set(found.files)) == 2


def refused(train: Train, name: str, paths: Sequence[Path], code: str) -> None:
    """Require that a model does not predict, by its code."""
    with pytest.raises(UsageError, match=rf"\[{code}\]"):
        train(name).model.predict(*paths)


def test_a_model_whose_layers_stay_at_sites_does_not_predict(train: Train, hospitals: Path) -> None:
    """The file says which entries are missing, and nobody takes initial values for trained ones."""
    paths = images(hospitals, "T1w")[:1]
    refused(train, "fedbn", paths, "U72")
    refused(train, "fedper", paths, "U72")
    head = train("fedper").model.card.entries
    assert head.at_sites == head.head
    refused(train, "combat", paths, "U73")


def test_a_folder_with_files_is_not_written_to(
    train: Train, hospitals: Path, tmp_path: Path
) -> None:
    """Predictions of two models would lie in one table."""
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match=r"\[U20\]"):
        train("mask").model.predict(images(hospitals, "FLAIR")[0], out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_full_disk_leaves_no_half_mask(
    train: Train, hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask is under its name when all of it is on the disk, and not before."""
    model = train("mask").model
    real = nib.Nifti1Image.to_bytes

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    def then_full(image: nib.Nifti1Image) -> bytes:
        monkeypatch.setattr("fedmri.machine.files.os.fsync", full)
        return bytes(real(image))

    monkeypatch.setattr(nib.Nifti1Image, "to_bytes", then_full)
    with pytest.raises(OSError, match="No space"):
        model.predict(images(hospitals, "FLAIR")[0], out=tmp_path / "out")
    assert list((tmp_path / "out").rglob("*_dseg.nii.gz")) == []

"""From scans on disk to batches: prepared once, split by patient, decided by seeds."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from fedmri.data.batches.examples import PreparedSite, open_images, open_site
from fedmri.data.batches.site_data import Split
from fedmri.data.batches.split import split_subjects
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import Prepared, read_site, write_site
from fedmri.data.read import read
from fedmri.data.scans import Scan
from fedmri.data.settings import AugmentConfig, DataConfig, PrepareConfig, SourceConfig
from fedmri.errors import ConfigError, DataError
from fedmri.round import Batch
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task

AGE = Regression("age")
KIND = Classification("kind", ("a", "b"))
MASK = Segmentation("mask", ("lesion",))
BOTH = SourceConfig(modalities=("T1w", "FLAIR"))
VOLUMES = DataConfig(source=BOTH, prepare=PrepareConfig(shape=(8, 8, 8)))
SLICES = DataConfig(source=BOTH, prepare=PrepareConfig(dimension="2d", shape=(0, 8, 8)))
SIDES: tuple[Split, ...] = ("train", "train", "train", "train", "train", "val", "test", "test")
SPLITS = {f"s{i}": side for i, side in enumerate(SIDES)}


def write_volume(path: Path, seed: int, shape: tuple[int, ...] = (10, 9, 8)) -> Path:
    """Write a noisy bright block in dark air."""
    values = np.random.default_rng(seed).random(shape)
    values[2:-2, 2:-2, 2:-2] += 10 + 3 * np.random.default_rng(seed).random()
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2, 2, 2, 1])), path)
    return path


def write_mask(path: Path) -> Path:
    """Write the mask of a small block."""
    values = np.zeros((10, 9, 8), dtype=np.uint8)
    values[3:6, 3:6, 3:6] = 1
    nib.save(nib.Nifti1Image(values, np.diag([2, 2, 2, 1])), path)
    return path


@pytest.fixture
def scans(tmp_path: Path) -> list[Scan]:
    """Return eight patients with T1w, mask and, but for the odd ones, FLAIR."""
    found = []
    for i in range(len(SIDES)):
        images = {"T1w": write_volume(tmp_path / f"{i}_T1w.nii.gz", i)}
        if i % 2 == 0:
            images["FLAIR"] = write_volume(tmp_path / f"{i}_FLAIR.nii.gz", 100 + i)
        labels = {"mask": write_mask(tmp_path / f"{i}_mask.nii.gz")}
        columns = {"age": str(30 + i), "kind": "ab"[i // 2 % 2]}
        found.append(Scan("x", f"s{i}", "", images, labels, columns))
    return found


def prepared(
    scans: Sequence[Scan], folder: Path, target: Task = AGE, config: DataConfig = VOLUMES
) -> Prepared:
    """Prepare scans with the splits of this file."""
    return prepare_scans(scans, target, config, SPLITS, folder / "cache")


def opened(
    scans: Sequence[Scan], folder: Path, target: Task = AGE, config: DataConfig = VOLUMES
) -> PreparedSite:
    """Prepare scans, write them as a site and open it."""
    write_site(folder / "site.json", prepared(scans, folder, target, config))
    return open_site([folder / "site.json"], target, config)


def bits(batches: Sequence[Batch]) -> list[bytes]:
    """Return all that a network would see, bit for bit."""
    return [batch.image.numpy().tobytes() + batch.target.numpy().tobytes() for batch in batches]


def test_an_epoch_holds_every_training_example_once(scans: list[Scan], tmp_path: Path) -> None:
    """Five training patients in batches of two: 2 and 3, for one alone joins the batch before."""
    data = opened(scans, tmp_path)
    batches = list(data.train_batches(batch_size=2, seed=0))
    assert [len(batch.subjects) for batch in batches] == [2, 3]
    assert sorted(s for batch in batches for s in batch.subjects) == [f"s{i}" for i in range(5)]
    for batch in batches:
        assert batch.image.shape[1:] == (2, 8, 8, 8)
        assert batch.image.dtype == torch.float32
        ages = [30.0 + int(subject[1:]) for subject in batch.subjects]
        assert batch.target.tolist() == ages


@pytest.mark.parametrize("config", [VOLUMES, SLICES], ids=["volumes", "slices"])
@pytest.mark.parametrize("target", [AGE, KIND, MASK], ids=lambda target: target.title)
def test_images_without_a_target_are_those_with_one(
    scans: list[Scan], tmp_path: Path, target: Task, config: DataConfig
) -> None:
    """A scan needs no answer to become what a network sees: the same bits, and nothing left out."""
    bare = [replace(scan, labels={}, columns={}) for scan in scans]
    found = prepare_scans(bare, None, config, SPLITS, tmp_path / "cache")
    assert found.findings == ()
    with_target = opened(scans, tmp_path, target, config)
    pairs = zip(
        open_images(found, config).eval_batches("test", batch_size=3),
        with_target.eval_batches("test", batch_size=3),
        strict=True,
    )
    for alone, whole in pairs:
        assert alone.image.numpy().tobytes() == whole.image.numpy().tobytes()
        assert alone.target.isnan().all()


def test_batches_of_one_stay_of_one(scans: list[Scan], tmp_path: Path) -> None:
    """Who asks for single examples gets them, the last included."""
    data = opened(scans, tmp_path)
    assert [len(b.subjects) for b in data.train_batches(batch_size=1, seed=0)] == [1] * 5


def test_evaluation_goes_in_order(scans: list[Scan], tmp_path: Path) -> None:
    """Every example of the split once, sorted, without augmentation."""
    config = replace(VOLUMES, augment=AugmentConfig(noise=1))
    data = opened(scans, tmp_path, config=config)
    batches = list(data.eval_batches("train", batch_size=3))
    assert [batch.subjects for batch in batches] == [("s0", "s1", "s2"), ("s3", "s4")]
    plain = opened(scans, tmp_path)
    assert bits(batches) == bits(list(plain.eval_batches("train", batch_size=3)))
    assert [example.subject for example in data.examples("test")] == ["s6", "s7"]


def test_a_seed_decides_an_epoch(scans: list[Scan], tmp_path: Path) -> None:
    """Order and augmentation come from the seed and from no global generator."""
    augment = AugmentConfig(affine=1, noise=1, bias=0.5, gamma=0.5, ghosting=0.5, flip=0.5)
    data = opened(scans, tmp_path, config=replace(VOLUMES, augment=augment))

    def epoch(seed: int, noise: int) -> list[bytes]:
        torch.manual_seed(noise)
        return bits(list(data.train_batches(batch_size=2, seed=seed)))

    assert epoch(4, noise=1) == epoch(4, noise=2)
    assert epoch(4, noise=1) != epoch(5, noise=1)


def test_training_between_batches_changes_no_batch(scans: list[Scan], tmp_path: Path) -> None:
    """What dropout draws while a batch is trained on leaves the next batch as it is."""
    data = opened(scans, tmp_path, config=replace(VOLUMES, augment=AugmentConfig(noise=1)))
    expected = bits(list(data.train_batches(batch_size=2, seed=0)))
    seen = []
    for batch in data.train_batches(batch_size=2, seed=0):
        seen += bits([batch])
        torch.rand(17)
    assert seen == expected


def test_an_absent_modality_is_flagged(scans: list[Scan], tmp_path: Path) -> None:
    """Its channel is zero and its flag is down, through augmentation too."""
    config = replace(VOLUMES, augment=AugmentConfig(noise=1, affine=1))
    for batch in opened(scans, tmp_path, config=config).train_batches(batch_size=5, seed=0):
        has_flair = [int(subject[1:]) % 2 == 0 for subject in batch.subjects]
        assert batch.present.tolist() == [[True, has] for has in has_flair]
        assert [bool(image.any()) for image in batch.image[:, 1]] == has_flair


def test_subjects_that_lack_a_modality_can_be_left_out(scans: list[Scan], tmp_path: Path) -> None:
    """Each is found, with its code, and the others are used."""
    config = replace(VOLUMES, source=replace(BOTH, missing="skip"))
    result = prepared(scans, tmp_path, config=config)
    assert [scan.subject for scan in result.scans] == ["s0", "s2", "s4", "s6"]
    assert [(f.code, f.subject) for f in result.findings] == [
        ("D24", subject) for subject in ("s1", "s3", "s5", "s7")
    ]


def test_a_bad_scan_harms_no_other(scans: list[Scan], tmp_path: Path) -> None:
    """Truncated, without a target, without a label map: three findings, five patients."""
    truncated = scans[0].images["T1w"]
    truncated.write_bytes(truncated.read_bytes()[:200])
    scans[1] = replace(scans[1], columns={"kind": "c"})
    scans[2] = replace(scans[2], labels={})
    of_kind = prepared(scans, tmp_path, KIND)
    assert [(f.subject, f.code) for f in of_kind.findings] == [("s0", "D07"), ("s1", "D16")]
    assert "s0: " in of_kind.findings[0].reason
    of_mask = prepared(scans, tmp_path, MASK)
    assert [(f.subject, f.code) for f in of_mask.findings] == [("s0", "D07"), ("s2", "D16")]
    assert all(finding.is_excluded for finding in of_mask.findings)


def test_what_a_library_cannot_do_is_a_finding(scans: list[Scan], tmp_path: Path) -> None:
    """Voxels of a metre leave nothing of a head of 2 cm: no crash, and no patient in silence."""
    config = replace(VOLUMES, prepare=PrepareConfig(spacing_mm=1000))
    result = prepared(scans, tmp_path, config=config)
    assert result.scans == ()
    assert [finding.code for finding in result.findings] == ["D45"] * len(scans)


@pytest.mark.parametrize("text", ["", "n/a", "nan", "inf", "old"])
def test_an_age_that_is_no_number_is_found(scans: list[Scan], tmp_path: Path, text: str) -> None:
    """A missing value must not become a target of NaN."""
    scans[3] = replace(scans[3], columns={"age": text})
    assert [f.code for f in prepared(scans, tmp_path).findings] == ["D16"]


def test_the_cache_gives_the_same_bits_and_is_left_alone(scans: list[Scan], tmp_path: Path) -> None:
    """A second preparation reads nothing but the inputs' bytes, and writes nothing."""
    cold = bits(list(opened(scans, tmp_path).eval_batches("train", batch_size=5)))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.*")}
    warm = bits(list(opened(scans, tmp_path).eval_batches("train", batch_size=5)))
    assert warm == cold
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.*")} == files


def test_a_truncated_cache_is_rebuilt_to_the_same_bits(scans: list[Scan], tmp_path: Path) -> None:
    """A crash or a full disk costs time, never a wrong image."""
    data = opened(scans, tmp_path)
    expected = bits(list(data.eval_batches("train", batch_size=5)))
    image = data.prepared.scans[0].image
    os.truncate(image, image.stat().st_size - 1)
    with pytest.raises(DataError, match="D44"):
        list(data.eval_batches("train", batch_size=5))
    again = opened(scans, tmp_path)
    assert bits(list(again.eval_batches("train", batch_size=5))) == expected


def test_masks_come_as_maps_of_their_images(scans: list[Scan], tmp_path: Path) -> None:
    """Shape (B, 1, D, H, W), int64, and the 27 voxels that were drawn."""
    batch = next(opened(scans, tmp_path, MASK).eval_batches("train", batch_size=2))
    assert batch.target.shape == (2, 1, 8, 8, 8)
    assert batch.target.dtype == torch.int64
    assert batch.target.sum((1, 2, 3, 4)).tolist() == [27, 27]


def test_slices_are_examples_in_order(scans: list[Scan], tmp_path: Path) -> None:
    """A volume of 8 slices at every second one, the first left out: 2, 4 and 6."""
    prepare = replace(SLICES.prepare, n_slices=4, skip_first=1)
    data = opened(scans, tmp_path, MASK, replace(SLICES, prepare=prepare))
    examples = data.examples("test")
    assert [(e.subject, e.slice_index) for e in examples] == [
        (subject, index) for subject in ("s6", "s7") for index in (2, 4, 6)
    ]
    assert examples[0].spacing_mm == pytest.approx((4, 2, 2))  # used slices lie 2 x 2 mm apart
    batches = list(data.eval_batches("test", batch_size=4))
    assert [batch.image.shape for batch in batches] == [(4, 2, 8, 8), (2, 2, 8, 8)]
    assert batches[0].target.flatten(1).sum(1).tolist() == [0, 9, 0, 0]
    assert batches[0].scans == ("s6", "s6", "s6", "s7")


def test_thick_slices_hold_their_neighbours(scans: list[Scan], tmp_path: Path) -> None:
    """Three channels a modality: the middle one is the plain slice; flags go with channels."""
    thick = replace(SLICES, prepare=replace(SLICES.prepare, dimension="2.5d"))
    plain_batch = next(opened(scans, tmp_path, AGE, SLICES).eval_batches("val", batch_size=8))
    batch = next(opened(scans, tmp_path, AGE, thick).eval_batches("val", batch_size=8))
    assert batch.image.shape == (8, 6, 8, 8)
    assert torch.equal(batch.image[:, [1, 4]], plain_batch.image)
    assert torch.equal(batch.image[1:, 0], plain_batch.image[:-1, 0])
    assert batch.present[0].tolist() == [True] * 3 + [False] * 3


def test_images_of_different_size_get_batches_of_their_own(
    scans: list[Scan], tmp_path: Path
) -> None:
    """Without ``prepare.shape`` sizes differ: nothing is lost, and one size fills each batch."""
    for i in (1, 3):
        write_volume(scans[i].images["T1w"], i, shape=(12, 9, 8))
    config = replace(VOLUMES, prepare=PrepareConfig())
    data = opened(scans, tmp_path, config=config)
    batches = list(data.train_batches(batch_size=2, seed=1))
    assert sorted((b.image.shape[2], len(b.subjects)) for b in batches) == [(10, 3), (12, 2)]
    in_order = [b.subjects for b in data.eval_batches("train", batch_size=4)]
    assert in_order == [("s0",), ("s1",), ("s2",), ("s3",), ("s4",)]


def test_mixed_classes_are_shares(scans: list[Scan], tmp_path: Path) -> None:
    """With mixup a target is a share of each class; without, and in evaluation, it is a class."""
    config = replace(VOLUMES, augment=AugmentConfig(mixup=1))
    data = opened(scans, tmp_path, KIND, config)
    batch = next(data.train_batches(batch_size=5, seed=0))
    assert batch.target.shape == (5, 2)
    assert torch.allclose(batch.target.sum(1), torch.ones(5))
    plain = next(data.eval_batches("train", batch_size=5))
    assert plain.target.dtype == torch.int64
    assert plain.target.tolist() == [0, 0, 1, 1, 0]


def test_several_sites_open_as_one(scans: list[Scan], tmp_path: Path) -> None:
    """The pooled arm sees the union, in whatever order the files are named."""
    halves = [scans[:3], [replace(scan, site="y") for scan in scans[3:]]]
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path, half in zip(paths, halves, strict=True):
        write_site(path, prepared(half, tmp_path))
    pool, other = open_site(paths, AGE, VOLUMES), open_site(paths[::-1], AGE, VOLUMES)
    assert [e.subject for e in pool.examples("train")] == [f"s{i}" for i in range(5)]
    assert pool.fingerprint == other.fingerprint
    epochs = [bits(list(data.train_batches(batch_size=2, seed=3))) for data in (pool, other)]
    assert epochs[0] == epochs[1]


def test_a_copy_on_two_sides_is_refused_at_the_door(scans: list[Scan], tmp_path: Path) -> None:
    """Two sites that share one FLAIR, one to train and one to test, do not open together."""
    scans[6] = replace(scans[6], images={**scans[6].images, "FLAIR": scans[0].images["FLAIR"]})
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path, half in zip(paths, (scans[:4], scans[4:]), strict=True):
        write_site(path, prepared(half, tmp_path))
        open_site([path], AGE, VOLUMES)
    with pytest.raises(DataError, match=r"s0 in train, s6 in test.*\[D41\]"):
        open_site(paths, AGE, VOLUMES)


def test_the_fingerprint_is_of_contents_preparation_and_split(
    scans: list[Scan], tmp_path: Path
) -> None:
    """Each of them changes it; the place of the cache does not."""
    first = prepared(scans, tmp_path).fingerprint
    assert prepared(scans, tmp_path / "elsewhere").fingerprint == first
    other_split = prepare_scans(scans, AGE, VOLUMES, {**SPLITS, "s0": "val"}, tmp_path / "cache")
    other_config = prepared(scans, tmp_path, config=SLICES)
    write_volume(scans[0].images["T1w"], 77)
    other_content = prepared(scans, tmp_path)
    assert len({first, *(p.fingerprint for p in (other_split, other_config, other_content))}) == 4


def test_a_site_file_survives_the_trip(scans: list[Scan], tmp_path: Path) -> None:
    """Everything is read as it was written, NaN for segmentation included, in a small file."""
    for target in (AGE, MASK):
        site = prepared(scans, tmp_path, target)
        write_site(tmp_path / "site.json", site)
        assert repr(read_site(tmp_path / "site.json").scans) == repr(site.scans)
    assert (tmp_path / "site.json").stat().st_size < 1500 * len(scans)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 9}', "null"])
def test_a_damaged_site_file_is_refused(tmp_path: Path, text: str) -> None:
    """It says which file, and what to do."""
    (tmp_path / "site.json").write_text(text)
    with pytest.raises(DataError, match=r"site\.json.*prepare the data again.*D43"):
        open_site([tmp_path / "site.json"], AGE, VOLUMES)


def test_an_edited_site_file_is_refused(scans: list[Scan], tmp_path: Path) -> None:
    """Moving a patient by hand would make a test set of training patients."""
    opened(scans, tmp_path)
    path = tmp_path / "site.json"
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"'))
    with pytest.raises(DataError, match=r"fingerprint.*D43"):
        open_site([path], AGE, VOLUMES)


def test_a_site_of_other_settings_is_refused(scans: list[Scan], tmp_path: Path) -> None:
    """Training on arrays of another preparation would go unnoticed."""
    opened(scans, tmp_path)
    with pytest.raises(DataError, match=r"other settings.*D43"):
        open_site([tmp_path / "site.json"], AGE, SLICES)


def test_batches_of_given_sizes_go_on_into_a_next_pass(scans: list[Scan], tmp_path: Path) -> None:
    """The pool's budget: each size as asked for, and each example as often as the others."""
    data = opened(scans, tmp_path)
    n_train = len(data.examples("train"))
    sizes = [3, 3, 2, 2]
    batches = list(data.train_sized(sizes, seeds=count()))
    assert [len(batch.subjects) for batch in batches] == sizes
    seen = Counter(subject for batch in batches for subject in batch.subjects)
    assert max(seen.values()) - min(seen.values()) <= 1
    assert len(seen) == min(n_train, sum(sizes))
    assert bits(batches) == bits(list(data.train_sized(sizes, seeds=count())))
    assert list(opened(scans[7:], tmp_path).train_sized(sizes, seeds=count())) == []


def test_a_pass_is_counted_as_it_is_cut(scans: list[Scan], tmp_path: Path) -> None:
    """What a budget is counted from is what training takes."""
    data = opened(scans, tmp_path)
    for batch_size in (1, 2, 3, 4, 99):
        taken = [len(b.subjects) for b in data.train_batches(batch_size=batch_size, seed=0)]
        assert sorted(data.batch_sizes(batch_size)) == sorted(taken)


def test_empty_splits_and_single_patients_are_cases(scans: list[Scan], tmp_path: Path) -> None:
    """A site of one test patient trains on nothing and is tested; a site of none does neither."""
    one = opened(scans[7:], tmp_path)
    assert list(one.train_batches(batch_size=4, seed=0)) == []
    assert [b.subjects for b in one.eval_batches("test", batch_size=4)] == [("s7",)]
    none = opened([], tmp_path)
    assert list(none.eval_batches("test", batch_size=4)) == []
    single = opened(scans[:1], tmp_path)
    assert [b.subjects for b in single.train_batches(batch_size=4, seed=0)] == [("s0",)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_array_stays_mapped(scans: list[Scan], tmp_path: Path) -> None:
    """Fifty sites in a process would add up if each kept its arrays."""
    data = opened(scans, tmp_path, MASK)
    batches = list(data.train_batches(batch_size=2, seed=0))
    assert batches
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_pictures_are_prepared_as_slices(tmp_path: Path) -> None:
    """A folder of pictures gives 2D examples; as neighbours a picture has itself."""
    for i in range(4):
        values = np.random.default_rng(i).integers(0, 40, (12, 10), dtype=np.uint8)
        values[3:9, 3:7] += 150
        path = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    source = SourceConfig(str(tmp_path / "data"), "images", modalities=("image",), site="x")
    target = Classification("class", ("a", "b"))
    table = read(source)
    prepare = PrepareConfig(dimension="2.5d", shape=(0, 12, 12))
    config = DataConfig(source=source, prepare=prepare, augment=AugmentConfig(affine=1, flip=1))
    splits = split_subjects(table.scans, target, replace(config.split, val=0, test=0), 0)
    write_site(tmp_path / "site.json", prepare_scans(table.scans, target, config, splits, tmp_path))
    data = open_site([tmp_path / "site.json"], target, config)
    plain = next(data.eval_batches("train", batch_size=4))
    assert plain.image.shape == (4, 3, 12, 12)
    assert torch.equal(plain.image[:, 0], plain.image[:, 2])
    assert plain.target.tolist() == [0, 0, 1, 1]
    assert next(data.train_batches(batch_size=4, seed=0)).image.shape == (4, 3, 12, 12)
    with pytest.raises(ConfigError, match=r"prepare\.dimension to 2d.*C03"):
        prepare_scans(
            table.scans, target, replace(config, prepare=PrepareConfig()), splits, tmp_path
        )


def test_real_tumours_keep_their_slices_and_masks(tmp_path: Path) -> None:
    """Of three real patients every tumour voxel arrives in a 2D example of its patient."""
    root = os.environ.get("FEDMRI_TEST_DATA")
    if not root:
        pytest.skip("FEDMRI_TEST_DATA is not set")
    source = SourceConfig(f"{root}/lgg-bids", modalities=("FLAIR", "T1w"))
    config = DataConfig(source=source, prepare=PrepareConfig(dimension="2d"))
    scans = read(source).scans[:3]
    splits: dict[str, Split] = {scan.subject: "train" for scan in scans}
    write_site(tmp_path / "site.json", prepare_scans(scans, MASK, config, splits, tmp_path))
    data = open_site([tmp_path / "site.json"], MASK, config)
    n_voxels: dict[str, int] = {}
    for batch in data.eval_batches("train", batch_size=16):
        for subject, mask in zip(batch.subjects, batch.target, strict=True):
            n_voxels[subject] = n_voxels.get(subject, 0) + int(mask.sum())
    assert n_voxels == {scan.subject: int(scan.columns["tumor_voxels"]) for scan in scans}

"""Which examples a pass takes: shares of labels and classes in every batch, by seed alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from fedmri.compatibility import plan_advice
from fedmri.config import load
from fedmri.data.batches.augment import Sample
from fedmri.data.batches.examples import PreparedSite, open_site
from fedmri.data.batches.sampling import cut
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import write_site
from fedmri.data.scans import Scan
from fedmri.data.settings import AugmentConfig, DataConfig, PrepareConfig, SampleConfig
from fedmri.errors import ConfigError
from fedmri.tasks.kinds.classification import Classification
from fedmri.tasks.kinds.segmentation import Segmentation
from fedmri.tasks.task import Task

MASK = Segmentation("mask", ("lesion",))
KIND = Classification("kind", ("a", "b"))
SLICES = PrepareConfig(dimension="2d", shape=(0, 8, 8))
N_SUBJECTS, SHAPE = 6, (8, 8, 10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with volumes of ten slices, two of them with a lesion; five are of kind a."""
    made = tmp_path_factory.mktemp("scans")
    for i in range(N_SUBJECTS):
        image = np.random.default_rng(i).random(SHAPE, dtype=np.float32) + 1
        mask = np.zeros(SHAPE, np.uint8)
        mask[2:4, 3:6, 4:6] = 1
        for name, values in (("T1w", image), ("mask", mask)):
            nib.save(nib.Nifti1Image(values, np.eye(4)), made / f"{i}_{name}.nii.gz")
    return made


def site(folder: Path, target: Task, sample: SampleConfig, prepare: PrepareConfig) -> PreparedSite:
    """Return the site, all of whose patients train."""
    config = DataConfig(prepare=prepare, sample=sample, augment=AugmentConfig(gamma=1.0))
    scans = [
        Scan(
            "x",
            f"s{i}",
            "",
            {"T1w": folder / f"{i}_T1w.nii.gz"},
            {"mask": folder / f"{i}_mask.nii.gz"},
            {"kind": "b" if i == 0 else "a"},
        )
        for i in range(N_SUBJECTS)
    ]
    sides = {scan.subject: "train" for scan in scans}
    found = prepare_scans(scans, target, config, sides, folder / "cache")  # type: ignore[arg-type]
    write_site(folder / "site.json", found)
    return open_site([folder / "site.json"], target, config)


def bits(site: PreparedSite, seed: int) -> list[bytes]:
    """Return a pass, bit for bit."""
    passed = site.train_batches(batch_size=6, seed=seed)
    return [batch.image.numpy().tobytes() for batch in passed]


def test_every_batch_holds_its_share_of_lesions(folder: Path) -> None:
    """A fifth of the slices has a lesion; a third of each batch of six has, in passes and steps."""
    data = site(folder, MASK, SampleConfig(foreground=1 / 3), SLICES)
    passed = list(data.train_batches(batch_size=6, seed=0))
    assert [len(batch.subjects) for batch in passed] == [6] * 10
    stepped = list(data.train_sized([6] * 5, seeds=count()))
    for batch in (*passed, *stepped):
        assert int((batch.target > 0).flatten(1).any(1).sum()) == 2


def test_a_slice_that_comes_again_is_changed_anew(folder: Path) -> None:
    """Twelve slices with a lesion fill sixty places: none looks as before, and the seed decides."""
    data = site(folder, MASK, SampleConfig(foreground=1.0), SLICES)
    images = [image for b in data.train_batches(batch_size=6, seed=0) for image in b.image]
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 60
    assert bits(data, 0) == bits(data, 0) != bits(data, 1)


def test_classes_come_as_often(folder: Path) -> None:
    """One patient of six is of class b, and half of every batch is."""
    data = site(folder, KIND, SampleConfig(is_class_balanced=True), SLICES)
    for batch in data.train_batches(batch_size=6, seed=0):
        assert Counter(batch.target.tolist()) == {0: 3, 1: 3}


def test_nothing_set_leaves_every_bit(folder: Path) -> None:
    """The order is the permutation of a pass, whatever else could be asked for."""
    data = site(folder, MASK, SampleConfig(), SLICES)
    order = np.random.default_rng(3).permutation(60)
    subjects = [s for b in data.train_batches(batch_size=6, seed=3) for s in b.subjects]
    assert subjects == [f"s{i // 10}" for i in order]
    assert bits(replace(data, is_site_balanced=True), 3) == bits(data, 3)


def test_patches_hold_lesions_as_often_as_asked(folder: Path) -> None:
    """Volumes of 8 x 8 x 10 give patches of one size; every second holds a voxel of the lesion."""
    sample = SampleConfig(foreground=0.5, patch=(4, 4, 4))
    data = site(folder, MASK, sample, PrepareConfig())
    n_labelled = 0
    for seed in range(5):
        for batch in data.train_batches(batch_size=2, seed=seed):
            assert batch.image.shape == (2, 1, 4, 4, 4)
            n_labelled += int((batch.target > 0).flatten(1).any(1).sum())
    assert n_labelled >= 15
    assert next(data.eval_batches("train", batch_size=2)).image.shape == (2, 1, *SHAPE)


def test_a_patch_larger_than_its_volume_is_filled_with_air() -> None:
    """What is there stays where it was."""
    image = torch.arange(1.0, 9.0).view(1, 2, 2, 2)
    found = cut(Sample(image, None, (True,), (1.0,) * 3, 0), (3, 2, 1), 0, is_labelled=False)
    assert found.image.shape == (1, 3, 2, 1)
    assert not found.image[:, 2].any()
    assert found.image[0, :2, :, 0].tolist() in (
        image[0, :, :, 0].tolist(),
        image[0, :, :, 1].tolist(),
    )


@pytest.mark.parametrize(
    ("name", "sample", "target"),
    [
        ("foreground", SampleConfig(foreground=0.3), KIND),
        ("is_class_balanced", SampleConfig(is_class_balanced=True), MASK),
        ("patch", SampleConfig(patch=(4, 4, 4)), MASK),
    ],
)
def test_what_the_target_lacks_is_refused(name: str, sample: SampleConfig, target: Task) -> None:
    """By the name of the setting; patches of slices as well."""
    with pytest.raises(ConfigError, match=rf"data\.sample\.{name}.*\[C03\]"):
        sample.refuse_unfit(target, SLICES)


def test_a_mirror_image_of_a_named_side_is_warned_of() -> None:
    """The left in a mirror is a right: said of classes with a side, and of no others."""
    for classes, is_warned in ((["left_hippocampus"], True), (["leftover", "bright"], False)):
        target = ["target.name=mask", f"target.classes={json.dumps(classes)}"]
        plan = load([*target, "data.augment.flip=0.5"]).plan
        assert any("names a side" in text for text in plan_advice(plan)) == is_warned

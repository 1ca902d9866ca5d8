"""Random changes of training examples: by seed alone, with the label, and never of the absent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmri.data.batches.augment import Sample, augment, mix, refuse_unfit
from fedmri.data.settings import AugmentConfig
from fedmri.errors import ConfigError
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation

EACH = [AugmentConfig(**{name: 1.0}) for name in ("affine", "bias", "gamma", "ghosting", "noise")]
ALL = AugmentConfig(affine=1, flip=0.5, noise=1, bias=1, gamma=1, ghosting=1)
SHAPES = [(20, 24), (16, 18, 20)]
EACH_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])


def sample(shape: tuple[int, ...], seed: int = 0) -> Sample:
    """Return a head with two modalities, of which the second is absent, and a bright lesion."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = sum(axis**2 for axis in axes) < 0.7
    lesion = (abs(axes[0] - 0.3) < 0.25) & (abs(axes[1] + 0.1) < 0.35) & head
    noise = np.random.default_rng(seed).normal(0, 0.05, shape)
    values = np.where(head, np.where(lesion, 2.0, -1.0) + noise, 0)
    image = torch.zeros(2, *shape)
    image[0] = torch.from_numpy(values)
    label = torch.from_numpy(lesion[None].astype(np.uint8))
    return Sample(image, label, (True, False), (1.0,) * len(shape), 0)


@EACH_SHAPE
@pytest.mark.parametrize("seed", range(3))
def test_a_label_follows_its_image(shape: tuple[int, ...], seed: int) -> None:
    """Where the image is bright after turning, scaling and mirroring, there is the lesion."""
    changed = augment(sample(shape), AugmentConfig(affine=1, flip=1), seed)
    bright, label = changed.image[0] > 0.5, changed.label
    assert label is not None
    assert label.dtype == torch.uint8
    overlap = 2 * (bright & (label[0] > 0)).sum() / (bright.sum() + label.sum())
    assert overlap > 0.9


@EACH_SHAPE
@pytest.mark.parametrize("config", EACH, ids=lambda c: max(vars(c), key=lambda n: vars(c)[n]))
def test_each_change_changes_the_image(shape: tuple[int, ...], config: AugmentConfig) -> None:
    """A setting without effect would mislead whoever sets it."""
    start = sample(shape)
    changed = augment(start, config, 5)
    assert changed.image.shape == start.image.shape
    assert torch.isfinite(changed.image).all()
    assert not torch.equal(changed.image[0], start.image[0])


@EACH_SHAPE
def test_a_seed_decides_everything(shape: tuple[int, ...]) -> None:
    """The same seed gives the same bits whatever was drawn before; another gives others."""
    torch.manual_seed(1)
    first = augment(sample(shape), ALL, 7).image
    torch.manual_seed(2)
    assert torch.equal(augment(sample(shape), ALL, 7).image, first)
    assert not torch.equal(augment(sample(shape), ALL, 8).image, first)


def test_the_global_generator_is_left_as_it_was() -> None:
    """Dropout draws from it: augmentation must not change what the network does."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    augment(sample((16, 18)), ALL, 0)
    assert torch.equal(torch.rand(4), expected)


@EACH_SHAPE
def test_the_original_is_not_changed(shape: tuple[int, ...]) -> None:
    """The next epoch starts from it again."""
    start = sample(shape)
    augment(start, ALL, 0)
    fresh = sample(shape)
    assert torch.equal(start.image, fresh.image)
    assert start.label is not None
    assert fresh.label is not None
    assert torch.equal(start.label, fresh.label)


@EACH_SHAPE
def test_an_absent_modality_stays_zero(shape: tuple[int, ...]) -> None:
    """Noise in an absent channel would tell the network that it is there."""
    assert not augment(sample(shape), ALL, 1).image[1].any()


def test_air_stays_zero() -> None:
    """The corners of the field of view are air before and after."""
    changed = augment(sample((32, 32)), AugmentConfig(noise=1, bias=1, gamma=1), 1)
    assert changed.image[0, 0, 0] == 0
    start = sample((32, 32)).image[0]
    assert torch.equal(changed.image[0] == 0, start == 0)


def test_a_flip_mirrors_left_and_right_only() -> None:
    """Along the axis that the example names, and never where a slice has no such axis."""
    start = sample((16, 18, 20))
    flipped = augment(start, AugmentConfig(flip=1), 0)
    assert torch.allclose(flipped.image, start.image.flip(1), atol=1e-5)
    sagittal = replace(start, mirror_axis=None)
    assert torch.allclose(augment(sagittal, AugmentConfig(flip=1), 0).image, start.image, atol=1e-5)


def test_neighbouring_slices_keep_one_contrast() -> None:
    """Three channels of one modality were measured together: gamma is drawn once for them."""
    start = sample((20, 24))
    thick = replace(start, image=start.image[:1].repeat(3, 1, 1), present=(True,), label=None)
    image = augment(thick, AugmentConfig(gamma=1), 2).image
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


def test_without_augmentation_an_example_passes_through() -> None:
    """No copy, no draw."""
    start = sample((8, 8))
    assert augment(start, AugmentConfig(mixup=1), 0) is start


def images(n: int) -> torch.Tensor:
    """Return images of which each has its own number everywhere."""
    return torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 1, 16, 16).clone()


def test_mixup_weighs_images_and_classes_alike() -> None:
    """With one-hot targets of six classes, the image's value is the expected class."""
    image, target, partner = mix(
        images(6), torch.eye(6), AugmentConfig(mixup=1), np.random.default_rng(0)
    )
    assert sorted(partner) == list(range(6))
    assert torch.allclose(image[:, 0, 0, 0], target @ torch.arange(6.0), atol=1e-5)
    assert torch.allclose(target.sum(1), torch.ones(6))


def test_cutmix_weighs_classes_by_what_is_seen() -> None:
    """Each voxel is of one of two examples, and a class weighs as many voxels as show it."""
    n_mixed = 0
    for seed in range(20):
        image, target, partner = mix(
            images(6), torch.eye(6), AugmentConfig(cutmix=1), np.random.default_rng(seed)
        )
        for i in range(6):
            shares = torch.tensor([(image[i] == k).float().mean() for k in range(6)])
            assert set(image[i].flatten().tolist()) <= {float(i), float(partner[i])}
            assert torch.allclose(target[i], shares, atol=1e-6)
            n_mixed += bool(0 < shares[i] < 1)
    assert n_mixed > 30


def test_a_batch_is_mixed_as_often_as_asked() -> None:
    """Of 400 batches 100 by mixup and 200 by CutMix, give or take five deviations of 10."""
    generator = np.random.default_rng(0)
    config = AugmentConfig(mixup=0.25, cutmix=0.5)
    untouched = sum(
        torch.equal(mix(images(2), torch.eye(2), config, generator)[1], torch.eye(2))
        for _ in range(400)
    )
    # A partner may be the example itself (half of the permutations of two), or a box be empty.
    assert 100 <= untouched <= 100 + 0.65 * 300


@pytest.mark.parametrize("kind", ["segmentation", "regression"])
def test_only_classes_are_mixed(kind: str) -> None:
    """Half a tumour of one patient in another is no anatomy; an age is no mixture."""
    target = Segmentation("x", ("y",)) if kind == "segmentation" else Regression("x")
    with pytest.raises(ConfigError, match=r"augment\.mixup.*C03"):
        refuse_unfit(AugmentConfig(cutmix=0.1), target)

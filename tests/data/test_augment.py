"""Random changes of training examples: by seed alone, with the label, and never of the absent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torchio as tio
from monai.transforms import RandBiasField

from fedmri.data.batches import augment as changes
from fedmri.data.batches.augment import Sample, augmented, mix, refuse_unfit
from fedmri.data.batches.drawing import Drawn, draw
from fedmri.data.batches.grids import DEGREES, SCALES, SHIFT, grids
from fedmri.data.settings import AugmentConfig
from fedmri.errors import ConfigError
from fedmri.tasks.kinds.regression import Regression
from fedmri.tasks.kinds.segmentation import Segmentation

NAMES = ("affine", "elastic", "bias", "gamma", "ghosting", "noise")
EACH = [AugmentConfig(**{name: 1.0}) for name in NAMES]
ALL = AugmentConfig(affine=1, elastic=1, flip=0.5, noise=1, bias=1, gamma=1, ghosting=1)
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


def augment(one: Sample, config: AugmentConfig, seed: int) -> Sample:
    """Return an example, changed in a batch of its own."""
    image, label = augmented([one], config, [seed])
    return replace(one, image=image[0], label=None if label is None else label[0])


def drawn(config: AugmentConfig, n_axes: int, seed: int = 0) -> Drawn:
    """Return what happens to an example of one modality."""
    return draw(config, seed, n_axes, 1)


@EACH_SHAPE
def test_a_device_changes_images_by_itself(shape: tuple[int, ...]) -> None:
    """No step mixes in a tensor of the CPU, which torch refuses beside one that lies nowhere."""
    nowhere = torch.device("meta")
    image, label = augmented([sample(shape)] * 2, ALL, [1, 2], nowhere)
    assert image.shape == (2, 2, *shape)
    assert label is not None
    assert image.device == label.device == nowhere


@EACH_SHAPE
@pytest.mark.parametrize("seed", range(3))
def test_a_label_follows_its_image(shape: tuple[int, ...], seed: int) -> None:
    """Where the image is bright after turning, scaling and mirroring, there is the lesion."""
    changed = augment(sample(shape), AugmentConfig(affine=1, elastic=1, flip=1), seed)
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
    """The same bits as in the cache."""
    start = sample((8, 8))
    assert torch.equal(augment(start, AugmentConfig(mixup=1), 0).image, start.image)


@EACH_SHAPE
def test_an_example_does_not_depend_on_its_batch(shape: tuple[int, ...]) -> None:
    """Other examples change nothing but the rounding of sums; a batch again gives the same bits."""
    samples = [sample(shape, seed) for seed in range(5)]
    config = AugmentConfig(affine=0.5, elastic=0.5, flip=0.5, bias=0.5, gamma=0.5, ghosting=0.5)
    image, label = augmented(samples, config, range(5))
    assert torch.equal(augmented(samples, config, range(5))[0], image)
    assert label is not None
    for row, one in enumerate(samples):
        alone = augment(one, config, row)
        assert torch.allclose(image[row], alone.image, atol=1e-4)
        assert alone.label is not None
        assert torch.equal(label[row], alone.label)


@EACH_SHAPE
def test_a_grid_turns_as_torchio_does(shape: tuple[int, ...]) -> None:
    """The same turn, scale and shift through TorchIO, in millimetres of unequal voxels."""
    one = drawn(AugmentConfig(affine=1), len(shape), seed=4)
    spacing = (1.0, 2.0, 1.5)[: len(shape)]
    blob = sample(shape).image[:1].clamp(min=0)
    found = torch.nn.functional.grid_sample(
        blob[None], grids([one], [spacing], shape, blob.device), align_corners=True
    )[0]
    assert abs(found - as_torchio(blob, one, spacing)).mean() < 0.05 * found.mean()
    assert abs(found - blob).mean() > 0.1 * found.mean()


def as_torchio(blob: torch.Tensor, one: Drawn, spacing: tuple[float, ...]) -> torch.Tensor:
    """Return an image after the affine of a draw, by TorchIO's own resampling."""
    n_axes = blob.ndim - 1
    ones = (1,) * (3 - n_axes)
    affine = np.diag([*spacing, *ones, 1.0])
    image = tio.ScalarImage(tensor=blob.reshape(*blob.shape, *ones), affine=affine)
    half = [step * (n - 1) / 2 for step, n in zip(spacing, blob.shape[1:], strict=True)]
    # a place is taken from R S^-1 p + t, so that the image is moved by S R' (p - t)
    matrix = np.eye(4)
    angles = np.radians(DEGREES * one.turn)
    planes = [(0, 1)] if n_axes == 2 else [(1, 2), (0, 2), (0, 1)]
    for (a, b), angle in zip(planes, angles, strict=False):
        plane = np.eye(4)
        plane[a, a] = plane[b, b] = np.cos(angle)
        plane[a, b], plane[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ plane
    matrix[:n_axes, :n_axes] = matrix[:n_axes, :n_axes] / (1 + SCALES * one.scale)
    matrix[:n_axes, 3] = 2 * SHIFT * one.shift * half
    centre = np.eye(4)
    centre[:n_axes, 3] = half
    taken = centre @ matrix @ np.linalg.inv(centre)  # from output to input, in millimetres
    moved = tio.ScalarImage(tensor=image.data, affine=np.linalg.inv(taken) @ affine)
    sampled = tio.Resample(image)(moved)
    return sampled.data.reshape(blob.shape)


@EACH_SHAPE
def test_ghosts_are_those_of_torchio(shape: tuple[int, ...]) -> None:
    """The same lines of k-space, by TorchIO."""
    one = drawn(AugmentConfig(ghosting=1), len(shape), seed=2)
    blob = sample(shape).image[:1]
    unit = blob[None].clone()
    changes._ghost(unit, [one])
    of_axis, of_number, of_strength = one.ghost.tolist()
    low, high = changes.GHOSTS
    number, axis = changes.N_GHOSTS[0] + int(of_number * 7), int(of_axis * len(shape))
    whole = blob.reshape(1, *shape, *(1,) * (3 - len(shape)))
    ghosts = tio.Ghosting(number, axis, low + of_strength * (high - low), restore=None)
    wanted = ghosts(whole)
    assert torch.allclose(unit[0, 0], wanted.reshape(shape), atol=1e-4)


@EACH_SHAPE
def test_shading_is_a_polynomial_as_in_monai(shape: tuple[int, ...]) -> None:
    """The same coefficients of Legendre polynomials, by MONAI; products up to degree three."""
    one = drawn(AugmentConfig(bias=1), len(shape))
    unit = torch.ones(1, 1, *shape)
    changes._shade(unit, [one])
    degrees = np.indices(one.shade.shape).sum(0)
    kept = np.where(degrees < 4, changes.BIAS * one.shade, 0)
    axes = [np.linspace(-1, 1, n) for n in shape]
    polynomial: Any = np.polynomial.legendre
    wanted = (
        polynomial.leggrid2d(*axes, kept) if len(shape) == 2 else polynomial.leggrid3d(*axes, kept)
    )
    assert torch.allclose(unit[0, 0].log(), torch.tensor(wanted).float(), atol=1e-5)
    if len(shape) == 3:
        coil = RandBiasField()
        field = coil._generate_random_field(shape, 3, [kept[at] for at in _monai_order()])
        assert torch.allclose(unit[0, 0].log(), torch.tensor(field).float(), atol=1e-5)


def _monai_order() -> list[tuple[int, int, int]]:
    """Return the products of polynomials in the order of MONAI's coefficients."""
    return [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]


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

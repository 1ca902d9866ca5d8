"""Random changes of training examples, decided by a seed alone and never cached."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torchio as tio
from monai.transforms import RandBiasField
from monai.utils import convert_to_tensor

from fedmri.data.settings import AugmentConfig
from fedmri.errors import ConfigError
from fedmri.round import Target

DEGREES = 10.0
SCALES = 0.1
SHIFT = 0.05
"""Largest shift, as a share of the field of view."""
LOG_GAMMA = 0.3
NOISE_STD = 0.05
"""Largest noise, as a share of the image's range."""
BIAS = 0.3
GHOSTS = (0.2, 0.6)
MIXUP_ALPHA = 0.2
CUTMIX_ALPHA = 1.0


@dataclass(frozen=True)
class Sample:
    """An example on its way into a batch.

    Attributes:
        image: Shape ``(C, D, H, W)`` or ``(C, H, W)``, float32.
        label: Label map, shape ``(1, D, H, W)`` or ``(1, H, W)``, uint8, or None.
        present: Whether each modality was there; each has the same number of channels.
        spacing_mm: Voxel size in the order of the spatial axes.
        mirror_axis: Spatial axis that runs left to right, or None.
    """

    image: torch.Tensor
    label: torch.Tensor | None
    present: tuple[bool, ...]
    spacing_mm: tuple[float, ...]
    mirror_axis: int | None


def refuse_unfit(config: AugmentConfig, target: Target) -> None:
    """Raise unless the augmentation makes sense for the target.

    Raises:
        ConfigError: Examples are mixed whose targets are no classes (C03).
    """
    if target.n_groups == 1 and (config.mixup or config.cutmix):
        raise ConfigError(
            "C03",
            "settings augment.mixup and augment.cutmix",
            found=f"a {target.title}",
            want="a classification, whose classes can be mixed",
            fix="set both to 0",
        )


def augment(sample: Sample, config: AugmentConfig, seed: int) -> Sample:
    """Return a randomly changed example; the seed decides how, whatever was drawn before.

    Intensities are changed between the head's lowest value and its highest, so that a field or a
    contrast acts on signal as in a scanner, and are then scaled back. Air, which preparation sets
    to zero, and an absent modality stay zero. A label map follows the geometry, by nearest
    neighbour.

    Args:
        sample: It is not changed.
        config: Probability of each change.
        seed: Other global random states are neither read nor changed.
    """
    if not any(value for name, value in vars(config).items() if name not in ("mixup", "cutmix")):
        return sample
    flat = sample.image.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    spread = torch.where(high > low, high - low, 1.0)
    axes = (-1, *[1] * (sample.image.ndim - 1))
    unit = (sample.image - low.view(axes)) / spread.view(axes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        image, is_head, label = _change(_shade(unit, sample, config, seed), sample, config)
    image = torch.where(is_head, image * spread.view(axes) + low.view(axes), 0)
    return replace(sample, image=image, label=label)


def _shade(unit: torch.Tensor, sample: Sample, config: AugmentConfig, seed: int) -> torch.Tensor:
    """Return other contrasts, one a modality, under another coil."""
    if torch.rand(1).item() < config.gamma:
        log_gamma = (2 * torch.rand(len(sample.present)) - 1) * LOG_GAMMA
        gamma = log_gamma.exp().repeat_interleave(len(unit) // len(sample.present))
        unit = unit ** gamma.view(-1, *[1] * (unit.ndim - 1))
    if config.bias:  # MONAI's is twenty times as quick as TorchIO's
        coil = RandBiasField(coeff_range=(-BIAS, BIAS), prob=config.bias)
        coil.set_random_state(seed % 2**32)
        unit = convert_to_tensor(coil(unit), track_meta=False)
    return unit


def _change(
    unit: torch.Tensor, sample: Sample, config: AugmentConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return image, head and label, changed by draws from the global generator, as TorchIO does."""
    subject = _subject(unit, sample)
    subject = tio.Compose(_transforms(subject, sample, config), copy=False)(subject)
    image, head, *labels = subject.get_images(intensity_only=False)
    label = None
    if sample.label is not None:
        label = labels[0].data.reshape(sample.label.shape).to(sample.label.dtype)
    return image.data.reshape(unit.shape), head.data.reshape(unit.shape) > 0, label


def _subject(unit: torch.Tensor, sample: Sample) -> tio.Subject:
    """Return the example as TorchIO has it: always with three spatial axes."""
    n_axes = unit.ndim - 1
    ones = [1] * (3 - n_axes)
    affine = np.diag([*sample.spacing_mm[-n_axes:], *ones, 1])
    maps = {"head": (sample.image != 0).to(torch.uint8), "label": sample.label}
    parts: dict[str, tio.Image] = {
        name: tio.LabelMap(tensor=values.reshape(*values.shape, *ones), affine=affine)
        for name, values in maps.items()
        if values is not None
    }
    image = tio.ScalarImage(tensor=unit.reshape(*unit.shape, *ones), affine=affine)
    return tio.Subject({"image": image, **parts})


def _transforms(subject: tio.Subject, sample: Sample, config: AugmentConfig) -> list[tio.Transform]:
    sides = zip(subject.spatial_shape, subject.spacing, strict=True)
    x, y, z = (SHIFT * size * mm if size > 1 else 0.0 for size, mm in sides)
    chosen: list[tio.Transform] = []
    if config.affine:
        shift_mm = (x, y, z)
        chosen.append(tio.RandomAffine(SCALES, DEGREES, shift_mm, p=config.affine, copy=False))
    if config.flip and sample.mirror_axis is not None:
        axis = (sample.mirror_axis,)
        chosen.append(tio.RandomFlip(axis, flip_probability=config.flip, copy=False))
    if config.ghosting:
        chosen.append(tio.RandomGhosting(intensity=GHOSTS, p=config.ghosting, copy=False))
    if config.noise:
        chosen.append(tio.RandomNoise(std=(0.0, NOISE_STD), p=config.noise, copy=False))
    return chosen


def mix(
    image: torch.Tensor,
    target: torch.Tensor,
    config: AugmentConfig,
    generator: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return a batch whose examples are mixed with others of it, by mixup or by CutMix.

    Mixup adds images as ``w * a + (1 - w) * b`` with ``w`` from Beta(0.2, 0.2). CutMix puts a box
    of ``b`` into ``a``; ``w`` is the share of voxels that stay. Classes are weighted alike.

    Args:
        image: Shape ``(B, C, …)``.
        target: One-hot classes, shape ``(B, K)``, float32.
        config: Probabilities that a batch is mixed by either; never by both.
        generator: Where all draws come from.

    Returns:
        Images, targets, and the partner of each example (itself where nothing was mixed).

    Source:
        Zhang et al. 2018, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899. MONAI's MixUp and
        CutMix draw from a state of their own and CutMix does not weigh classes by the box.
    """
    draw = generator.random()
    partner = generator.permutation(len(image))
    if draw < config.mixup:
        weight = float(generator.beta(MIXUP_ALPHA, MIXUP_ALPHA))
        mixed = weight * image + (1 - weight) * image[partner]
    elif draw < config.mixup + config.cutmix:
        box = _box(image.shape[2:], 1 - generator.beta(CUTMIX_ALPHA, CUTMIX_ALPHA), generator)
        mixed = image.clone()
        mixed[:, :, *box] = image[partner][:, :, *box]
        n_cut = np.prod([side.stop - side.start for side in box])
        weight = float(1 - n_cut / np.prod(image.shape[2:]))
    else:
        return image, target, np.arange(len(image))
    return mixed, weight * target + (1 - weight) * target[partner], partner


def _box(shape: torch.Size, share: float, generator: np.random.Generator) -> tuple[slice, ...]:
    """Return a box that holds the share of the voxels, less what sticks out of the image."""
    sides = []
    for size in shape:
        half = size * share ** (1 / len(shape)) / 2
        centre = generator.integers(size)
        sides.append(slice(max(0, round(centre - half)), min(size, round(centre + half))))
    return tuple(sides)

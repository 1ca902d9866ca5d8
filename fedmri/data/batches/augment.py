"""Random changes of a batch of training examples; the seed of an example decides its own.

All examples of a batch are changed together: intensities by operations on the whole batch, turns,
scales, shifts, bends and mirrors by one grid and one interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fedmri.data.batches.drawing import Drawn, draw, normal
from fedmri.data.batches.grids import grids, legendre, separable
from fedmri.data.settings import AugmentConfig
from fedmri.errors import ConfigError
from fedmri.round import Target

LOG_GAMMA = 0.3
NOISE_STD = 0.05
"""Largest noise, as a share of the image's range."""
BIAS = 0.3
GHOSTS = (0.2, 0.6)
N_GHOSTS = (4, 10)
KEPT_CENTRE = 0.02
"""Share of the lines of k-space, around its centre, that a movement leaves."""
MIXUP_ALPHA = 0.2
CUTMIX_ALPHA = 1.0
GEOMETRY = frozenset({"affine", "elastic"})


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


Stack = tuple[torch.Tensor, torch.Tensor | None]
"""Images and label maps of a batch, shapes ``(B, C, …)`` and ``(B, 1, …)``."""


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


def stacked(samples: Sequence[Sample]) -> Stack:
    """Return examples as a batch; all have one shape, and label maps or none."""
    labels = [sample.label for sample in samples if sample.label is not None]
    image = torch.stack([sample.image for sample in samples])
    return image, torch.stack(labels) if labels else None


def augmented(
    samples: Sequence[Sample],
    config: AugmentConfig,
    seeds: Sequence[int],
    device: torch.device | None = None,
) -> Stack:
    """Return a randomly changed batch of examples of one shape.

    Intensities are changed between the head's lowest value and its highest, so that a field or a
    contrast acts on signal as in a scanner, and are then scaled back. Air, which preparation sets
    to zero, and an absent modality stay zero. A label map follows the geometry, by nearest
    neighbour. An example to which nothing happens passes through, bit for bit.

    Args:
        samples: They are not changed.
        config: Probability of each change.
        seeds: One for each example: it decides what happens, whatever else is in the batch.
        device: Where images are changed and left; None is where the samples are.

    Source:
        The changes are those of TorchIO (Pérez-García et al. 2021,
        doi:10.1016/j.cmpb.2021.106236); shading by a coil is that of MONAI.
    """
    image, label = stacked(samples)
    if device is not None:
        image, label = image.to(device), label if label is None else label.to(device)
    n_axes, n_modalities = image.ndim - 2, len(samples[0].present)
    all_drawn = [draw(config, seed, n_axes, n_modalities) for seed in seeds]
    rows = [row for row, drawn in enumerate(all_drawn) if drawn.happens]
    if rows:
        own = [samples[row] for row in rows], [all_drawn[row] for row in rows]
        changed, maps = _changed(image[rows], label if label is None else label[rows], *own)
        image[rows] = changed
        if label is not None and maps is not None:
            label[rows] = maps
    return image, label


def _changed(
    image: torch.Tensor,
    label: torch.Tensor | None,
    samples: Sequence[Sample],
    drawn: Sequence[Drawn],
) -> Stack:
    flat, axes = image.flatten(2), (*image.shape[:2], *[1] * (image.ndim - 2))
    low, high = flat.amin(2).view(axes), flat.amax(2).view(axes)
    spread = torch.where(high > low, high - low, 1.0)
    unit, maps = (image - low) / spread, (image != 0).float()
    if label is not None:
        maps = torch.cat([maps, label.float()], 1)
    _contrast(unit, drawn)
    _shade(unit, drawn)
    _move(unit, maps, samples, drawn)
    _ghost(unit, drawn)
    for row, one in enumerate(drawn):
        if "noise" in one.happens:
            noise = normal(one.seed, unit[row].shape).to(unit.device)
            unit[row].add_(noise, alpha=NOISE_STD * one.noise)
    is_head = maps[:, : image.shape[1]] > 0
    image = torch.where(is_head, unit * spread + low, 0)
    return image, None if label is None else maps[:, image.shape[1] :].to(label.dtype)


def _rows(name: str, drawn: Sequence[Drawn]) -> list[int]:
    """Return the examples to which a change happens."""
    return [row for row, one in enumerate(drawn) if name in one.happens]


def _contrast(unit: torch.Tensor, drawn: Sequence[Drawn]) -> None:
    """Give each modality another contrast; edits ``unit``, as the next three do."""
    if rows := _rows("gamma", drawn):
        gamma = torch.tensor(np.stack([drawn[row].contrast for row in rows]) * LOG_GAMMA).exp()
        gamma = gamma.to(unit.device).repeat_interleave(unit.shape[1] // gamma.shape[1], dim=1)
        unit[rows] = unit[rows] ** gamma.view(*gamma.shape, *[1] * (unit.ndim - 2))


def _shade(unit: torch.Tensor, drawn: Sequence[Drawn]) -> None:
    """Put images under another coil, whose field is a polynomial of the third degree."""
    if rows := _rows("bias", drawn):
        factors = torch.tensor(np.stack([drawn[row].shade for row in rows]) * BIAS)
        degrees = torch.meshgrid(*[torch.arange(n) for n in factors.shape[1:]], indexing="ij")
        factors[:, torch.stack(degrees).sum(0) >= factors.shape[1]] = 0
        bases = [legendre(n, factors.shape[1]).to(unit.device) for n in unit.shape[2:]]
        field = separable(factors.to(unit.device), bases)
        unit[rows] = unit[rows] * field.exp()[:, None]


def _move(
    unit: torch.Tensor, maps: torch.Tensor, samples: Sequence[Sample], drawn: Sequence[Drawn]
) -> None:
    """Turn, scale, shift, bend and mirror images, and the maps that follow them."""
    for row in _rows("flip", drawn):
        axis = samples[row].mirror_axis
        if axis is not None:
            unit[row], maps[row] = unit[row].flip(1 + axis), maps[row].flip(1 + axis)
    if rows := [row for row, one in enumerate(drawn) if one.happens & GEOMETRY]:
        spacings = [samples[row].spacing_mm for row in rows]
        grid = grids([drawn[row] for row in rows], spacings, unit.shape[2:], unit.device)
        sample = torch.nn.functional.grid_sample
        unit[rows] = sample(unit[rows], grid, mode="bilinear", align_corners=True)
        maps[rows] = sample(maps[rows], grid, mode="nearest", align_corners=True)


def _ghost(unit: torch.Tensor, drawn: Sequence[Drawn]) -> None:
    """Weaken every n-th line of k-space, as a patient who moves does."""
    sides = unit.shape[2:]
    for row in _rows("ghosting", drawn):
        of_axis, of_number, of_strength = drawn[row].ghost.tolist()
        axis = int(of_axis * len(sides))
        step = N_GHOSTS[0] + int(of_number * (N_GHOSTS[1] - N_GHOSTS[0] + 1))
        n, centre = sides[axis], sides[axis] // 2
        kept = torch.ones(n)
        kept[::step] = 1 - (GHOSTS[0] + of_strength * (GHOSTS[1] - GHOSTS[0]))
        n_kept = round(KEPT_CENTRE * n) // 2
        kept[centre - n_kept : centre + n_kept + 1] = 1
        lines = torch.fft.ifftshift(kept).view(-1, *[1] * (len(sides) - 1 - axis))
        spectrum = torch.fft.fft(unit[row], dim=1 + axis)
        unit[row] = torch.fft.ifft(spectrum * lines.to(unit.device), dim=1 + axis).real


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

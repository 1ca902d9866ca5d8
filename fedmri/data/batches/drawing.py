"""What is drawn for an example that is augmented: by its seed alone, whatever its batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedmri.data.settings import AugmentConfig

N_DEGREES = 4
"""Legendre polynomials of a coil's shading along an axis."""
N_CONTROLS = 7
"""Control points of a bent image along an axis."""
MIXES = ("mixup", "cutmix")
"""Changes of a batch as a whole, which are not drawn here."""

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Drawn:
    """What happens to an example. Numbers without a unit lie between -1 and 1.

    Attributes:
        seed: Where further numbers of the example come from.
        happens: Names of the changes.
        turn: Of three axes; a slice is turned by the first.
        scale: Along the axes.
        shift: Along the axes.
        bend: Of each control point, shape ``(n_axes, 7, …)``.
        contrast: Of each modality.
        shade: Of each product of polynomials, shape ``(4, …)``.
        ghost: Axis, number and strength of ghosts, from 0 to 1.
        noise: Its strength, from 0 to 1.
    """

    seed: int
    happens: frozenset[str]
    turn: Numbers
    scale: Numbers
    shift: Numbers
    bend: Numbers
    contrast: Numbers
    shade: Numbers
    ghost: Numbers
    noise: float


def draw(config: AugmentConfig, seed: int, n_axes: int, n_modalities: int) -> Drawn:
    """Return what happens to an example.

    Args:
        config: Probability of each change.
        seed: Decides all of it.
        n_axes: Spatial axes.
        n_modalities: Each gets a contrast of its own.
    """
    generator = np.random.default_rng(seed)

    def numbers(*shape: int) -> Numbers:
        return generator.uniform(-1, 1, shape).astype(np.float32)

    chances = {name: value for name, value in vars(config).items() if name not in MIXES}
    # every number is drawn, whatever happens: a setting changes nothing but what it names
    draws = generator.random(len(chances))
    return Drawn(
        seed,
        frozenset(name for name, at in zip(chances, draws, strict=True) if at < chances[name]),
        turn=numbers(3),
        scale=numbers(n_axes),
        shift=numbers(n_axes),
        contrast=numbers(n_modalities),
        shade=numbers(*[N_DEGREES] * n_axes),
        ghost=generator.random(3).astype(np.float32),
        noise=float(generator.random()),
        bend=numbers(n_axes, *[N_CONTROLS] * n_axes),
    )


def normal(seed: int, shape: torch.Size) -> torch.Tensor:
    """Return standard normal numbers; global random states are neither read nor changed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator)

"""Convolutions that turn an image into a map of features, or into one vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from monai.networks.layers.factories import Conv, Norm, Pool
from torch import nn

from fedmri.models.blocks import block

VGG16: tuple[int, ...] = (2, 2, 3, 3, 3)
VGG19: tuple[int, ...] = (2, 2, 4, 4, 4)
"""Convolutions of each stage."""

_LEAK = 0.1


def vgg(n_dims: int, n_in: int, width: int, stages: Sequence[int]) -> nn.Module:
    """Return VGG without its linear layers, each convolution with a norm; 8 x width features.

    Source:
        Simonyan and Zisserman 2015, arXiv:1409.1556 (table 1).
    """
    widths = [width * min(2**i, 8) for i in range(len(stages))]
    layers: list[nn.Module] = []
    for (n_before, n_after), n_convolutions in zip(pairwise([n_in, *widths]), stages, strict=True):
        for i in range(n_convolutions):
            n_first, is_last = (n_before if i == 0 else n_after), i == n_convolutions - 1
            layers.append(block(n_dims, n_first, n_after, is_pooled=is_last))
    return nn.Sequential(*layers)


def pyramid(n_dims: int, n_in: int, widths: Sequence[int]) -> nn.Module:
    """Return one block of convolution, norm, ReLU and max pooling for each width."""
    pairs = pairwise([n_in, *widths])
    return nn.Sequential(*(block(n_dims, before, after, is_pooled=True) for before, after in pairs))


def growing(n_in: int, widths: Sequence[int], kernels: Sequence[int]) -> nn.Module:
    """Return convolutions of flat slices whose kernels grow, each with norm, leaky ReLU, pooling.

    The first kernel of 1 mixes channels alone.
    """
    layers: list[nn.Module] = []
    for (before, after), kernel in zip(pairwise([n_in, *widths]), kernels, strict=True):
        layers += [
            nn.Conv2d(before, after, kernel, padding=kernel // 2),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(_LEAK),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers)


def dense(n_in: int, widths: Sequence[int]) -> nn.Module:
    """Return a linear layer with ReLU for each width."""
    pairs = pairwise([n_in, *widths])
    layers = (each for before, after in pairs for each in (nn.Linear(before, after), nn.ReLU()))
    return nn.Sequential(*layers)


def to_vector(n_dims: int) -> nn.Module:
    """Return global average pooling: a map of features becomes one vector an image."""
    return nn.Sequential(Pool[Pool.ADAPTIVEAVG, n_dims](1), nn.Flatten(1))


def to_channels(n_dims: int, n_in: int, n_out: int) -> nn.Module:
    """Return a convolution of 1 with a norm: the same places, other channels."""
    convolution = Conv[Conv.CONV, n_dims](n_in, n_out, kernel_size=1)
    return nn.Sequential(convolution, Norm[Norm.BATCH, n_dims](n_out), nn.ReLU())

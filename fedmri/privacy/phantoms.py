"""Public images: ellipses of three tissues, drawn from a seed and from no patient.

What a network makes of them says roughly where its embeddings of heads lie and how far they
spread. A release can be centred and scaled by that without looking at anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SEMI_AXES = (0.65, 0.95)
"""Least and largest semi-axis, as a share of half the image."""
BRIGHTNESS, SHARES = (0.3, 0.6, 0.9), (4, 8, 8)
"""Mean intensity of fluid, gray and white matter, and how much of each there usually is."""
GRAIN = (1 / 32, 1 / 12)
"""Least and largest size of the folds, as a share of the image."""
VARIES, NOISE = 0.05, 0.03


def phantoms(shape: Sequence[int], n: int, seed: int) -> NDArray[np.float32]:
    """Return ``n`` images of a shape, ``(n, *shape)``."""
    source = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    return np.stack([_phantom(axes, source) for _ in range(n)])


def _phantom(
    axes: Sequence[NDArray[np.float64]], source: np.random.Generator
) -> NDArray[np.float32]:
    semi = source.uniform(*SEMI_AXES, len(axes))
    centre = source.normal(0, VARIES, len(axes))
    places = zip(axes, centre, semi, strict=True)
    inside = sum(((axis - c) / a) ** 2 for axis, c, a in places) < 1
    image = _tissues(inside, source)
    blurred = ndimage.gaussian_filter(image, source.uniform(0.3, 0.9))
    noisy = blurred + source.normal(0, NOISE, inside.shape)
    return np.where(inside, noisy, 0).astype(np.float32)


def _tissues(inside: NDArray[np.bool_], source: np.random.Generator) -> NDArray[np.float64]:
    """Return an image of folded tissues, of which there is more or less of each."""
    grain = source.uniform(*GRAIN) * min(inside.shape)
    folds = ndimage.gaussian_filter(source.normal(size=inside.shape), grain)
    ends = np.quantile(folds[inside], np.cumsum(source.dirichlet(SHARES))[:-1])
    levels = np.array(BRIGHTNESS) + source.normal(0, VARIES, len(BRIGHTNESS))
    return np.asarray(levels[np.searchsorted(ends, folds)])

"""Public images: ellipses with a rim and a texture, drawn from a seed and from no patient.

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
RIM, INSIDE, TEXTURE, BRIGHTER = 0.9, 0.5, 0.15, 0.3
"""Where the rim begins, as a share of the semi-axes; intensities inside, of texture and rim."""


def phantoms(shape: Sequence[int], n: int, seed: int) -> NDArray[np.float32]:
    """Return ``n`` images of a shape, ``(n, *shape)``."""
    source = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    return np.stack([_phantom(axes, source) for _ in range(n)])


def _phantom(
    axes: Sequence[NDArray[np.float64]], source: np.random.Generator
) -> NDArray[np.float32]:
    semi = source.uniform(*SEMI_AXES, len(axes))
    centre = source.normal(0, 0.05, len(axes))
    places = zip(axes, centre, semi, strict=True)
    radius = np.sqrt(sum(((axis - c) / a) ** 2 for axis, c, a in places))
    texture = ndimage.gaussian_filter(source.normal(size=radius.shape), min(radius.shape) / 32)
    inside = INSIDE + TEXTURE * texture / max(texture.std(), 1e-12)
    image = np.where(radius < 1, inside, 0) + BRIGHTER * ((radius > RIM) & (radius < 1))
    return np.asarray(image, dtype=np.float32)

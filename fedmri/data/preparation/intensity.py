"""Intensities of an image: one scale for all, and the drift of the coil taken out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import SimpleITK

from fedmri.data.preparation.head import find_head, head_mask
from fedmri.errors import DataError

itk: Any = SimpleITK  # none of its functions has types

OUTLIER = 10.0
"""Ranges from the 1st to the 99th percentile by which a value lies outside to be no signal."""


def refuse_unusable(values: np.ndarray) -> None:
    """Raise unless values are finite and differ (D10)."""
    if not (np.isfinite(values).all() and values.min() < values.max()):
        fix = "export the image again, or list the subject in data.check.exclude"
        found = "one value everywhere, or values that are not finite"
        raise DataError("D10", "an image", found=found, want="finite values that differ", fix=fix)


def scale(values: np.ndarray, scaling: str) -> np.ndarray:
    """Return intensities scaled by what lies inside the head; nothing but air is set to a constant.

    Args:
        values: Image, shape ``(D, H, W)``, not constant.
        scaling: ``zscore`` (mean 0, deviation 1 inside the head, of values that can be signal; air
            beyond doubt is 0, since three deviations below the head, where z-scores put it, it
            slows training down, and nothing else is 0), ``percentile`` (1st to 0, 99th to 1,
            clipped) or ``none``.

    Raises:
        DataError: The head has one value everywhere (D10).
    """
    if scaling == "none":
        return values
    head = find_head(values)
    inside = values[head.mask].astype(np.float64)
    refuse_unusable(inside)
    if scaling == "zscore":
        low, high = signal_range(inside)
        signal = inside[(inside >= low) & (inside <= high)]
        limited = values.clip(low, high)
        scores = np.asarray((limited - signal.mean()) / signal.std(), dtype=np.float32)
        scores[scores == 0] = np.finfo(np.float32).tiny  # 0 says air, and this is not
        scores[head.air] = 0
        return scores
    low, high = np.percentile(inside, (1, 99))
    if low == high:
        low, high = inside.min(), inside.max()
    return np.asarray(((values - low) / (high - low)).clip(0, 1), dtype=np.float32)


def signal_range(values: np.ndarray) -> tuple[float, float]:
    """Return the lowest and the highest value that tissue can have.

    One voxel of a million, or a corner of -32768, would take the mean and the deviation with it and
    flatten all others. Infinite where the values say nothing.
    """
    low, high = np.percentile(values, (1, 99))
    reach = OUTLIER * (high - low)
    return (float(low - reach), float(high + reach)) if reach else (-math.inf, math.inf)


def remove_bias_field(values: np.ndarray) -> np.ndarray:
    """Return the image without its slow intensity drift (N4, fitted on a coarser copy).

    Args:
        values: Image, shape ``(D, H, W)``; an axis of length 1 makes it a 2D image.

    Source:
        Tustison et al. 2010, doi:10.1109/TMI.2010.2046908.
    """
    flat = np.squeeze(values)
    image = itk.GetImageFromArray((flat - flat.min() + 1).astype(np.float32))
    mask = itk.GetImageFromArray(np.squeeze(head_mask(values)).astype(np.uint8))
    factors = [max(1, min(4, size // 16)) for size in image.GetSize()]
    n4 = itk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([30, 30, 30])
    with _one_thread():
        n4.Execute(itk.Shrink(image, factors), itk.Shrink(mask, factors))
        field = np.exp(itk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)))
    corrected = itk.GetArrayFromImage(image) / field - 1 + flat.min()
    return np.asarray(corrected.reshape(values.shape), dtype=np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep N4 from adding up in an order that the number of cores decides."""
    n_threads = itk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    itk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        itk.ProcessObject.SetGlobalDefaultNumberOfThreads(n_threads)

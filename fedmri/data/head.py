"""Where the head is in an image, and where the brain is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK

itk: Any = SimpleITK  # none of its functions has types


def head_mask(values: np.ndarray) -> np.ndarray:
    """Return where the head is: the largest bright part, with its holes filled.

    Brighter than Otsu's threshold, taken below the 99.5th percentile so that a few bright voxels
    do not move it. Air that was set to zero, as after skull stripping, is outside as well.

    Args:
        values: Image, shape ``(D, H, W)``; an axis of length 1 makes it a 2D image. Not constant.

    Returns:
        Mask of the same shape; at least one voxel is inside.

    Source:
        Otsu 1979, doi:10.1109/TSMC.1979.4310076.
    """
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    if high <= low:
        return np.asarray(values > low)
    image = itk.GetImageFromArray(np.squeeze(values.clip(low, high)).astype(np.float32))
    bright = itk.OtsuThreshold(image, 0, 1)
    return array(itk.BinaryFillhole(_largest(bright))).reshape(values.shape).astype(bool)


def _largest(mask: Any) -> Any:
    parts = itk.RelabelComponent(itk.ConnectedComponent(mask), sortByObjectSize=True)
    return itk.Equal(parts, 1)


def array(image: Any) -> np.ndarray:
    """Return the voxels of a SimpleITK image, its first axis last."""
    return np.asarray(itk.GetArrayFromImage(image))


def brain_mask(values: np.ndarray, spacing_mm: Sequence[float], gap_mm: float = 4.0) -> np.ndarray:
    """Return a crude mask of the brain: bright, and the largest part once thin bridges are cut.

    For T1w and FLAIR heads of adults, whose skull is a dark gap between scalp and brain. It keeps
    some eye and dura and may lose thin gyri: strip with a trained tool (HD-BET, SynthStrip) before
    fedmri where the skull matters, and leave this off.

    Args:
        values: Image, shape ``(D, H, W)``; an axis of length 1 makes it a 2D image.
        spacing_mm: Voxel size along the three axes.
        gap_mm: Bridges thinner than twice this are cut.

    Returns:
        Mask of the same shape; the whole head where nothing survives the cutting.
    """
    clipped = values.clip(None, float(np.percentile(values, 99.5))).astype(np.float32)
    bright = itk.OtsuThreshold(itk.GetImageFromArray(np.squeeze(clipped)), 0, 1)
    sizes = [mm for mm, n in zip(spacing_mm, values.shape, strict=True) if n > 1]
    radius = [max(1, round(gap_mm / mm)) for mm in reversed(sizes)]  # SimpleITK's axes run x first
    core = itk.BinaryErode(bright, radius, itk.sitkBall)
    if not array(core).any():
        return head_mask(values)
    grown = itk.BinaryDilate(_largest(core), radius, itk.sitkBall)
    return array(itk.BinaryFillhole(grown)).reshape(values.shape).astype(bool)

"""Masks compared: overlap, surfaces, volume and lesions, with a stated rule for empty masks.

The mask of a class may be empty in truth, in prediction or in both. A mean that leaves such
patients out rewards missed lesions, so every function takes the rule and returns a number.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from fedmri.evaluate.arrays import Array, Flags, unfit

Definition = Literal["max", "concatenated", "mean"]
"""HD95 has three definitions: the larger of both directions (MONAI), one percentile over both
directions side by side (MedPy), or the mean of both directions."""


@dataclass(frozen=True)
class Empty:
    """What a score is where a mask is empty.

    Both masks empty is a perfect answer. One empty mask is a failure: overlap 0 and the distance
    below.

    Attributes:
        distance_mm: Distance of a failure; NaN takes the diagonal of the image.

    Source:
        Zenk et al. 2025, FeTS, doi:10.1038/s41467-025-60466-1 (374 mm).
    """

    distance_mm: float = 374.0

    def distance(self, shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
        """Return the distance of a failure in an image, in mm."""
        if math.isfinite(self.distance_mm):
            return self.distance_mm
        return math.hypot(*(n * mm for n, mm in zip(shape, spacing_mm, strict=True)))


FETS = Empty()


def dice(predicted: Flags, truth: Flags) -> float:
    """Return the overlap of two masks; 1 where both are empty, 0 where one is.

    Args:
        predicted: True where the class is predicted.
        truth: True where the class is, same shape.

    Raises:
        UsageError: The shapes differ (U80).

    Source:
        Dice 1945, doi:10.2307/1932409.
    """
    _require_same_shape(predicted, truth)
    total = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / total if total else 1.0


def jaccard(predicted: Flags, truth: Flags) -> float:
    """Return the shared part of the union of two masks; 1 where both are empty.

    Source:
        Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x.
    """
    overlap = dice(predicted, truth)
    return overlap / (2 - overlap)


def hd95_mm(
    predicted: Flags,
    truth: Flags,
    spacing_mm: Sequence[float],
    *,
    definition: Definition = "max",
    empty: Empty = FETS,
) -> float:
    """Return the 95th percentile of distances between the surfaces of two masks, in mm.

    Args:
        predicted: True where the class is predicted, two or three dimensions.
        truth: True where the class is, same shape.
        spacing_mm: Voxel size, one number for each dimension. There is no default: distances in
            voxels are no distances.
        definition: Which of three; ``max`` is MONAI's own.
        empty: Rule for empty masks.

    Raises:
        UsageError: Shapes or dimensions differ (U80).

    Source:
        Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z (Metrics Reloaded).
    """
    spacing = _require_spacing(predicted, truth, spacing_mm)
    if (known := _of_empty(predicted, truth, (0.0, empty.distance(truth.shape, spacing)))) is None:
        if definition == "max":
            return _monai("compute_hausdorff_distance", predicted, truth, spacing, percentile=95)
        there, back = surface_distances_mm(predicted, truth, spacing)
        if definition == "concatenated":
            return float(np.percentile(np.concatenate([there, back]), 95))
        return float((np.percentile(there, 95) + np.percentile(back, 95)) / 2)
    return known


def surface_distances_mm(
    first: Flags, second: Flags, spacing_mm: Sequence[float]
) -> tuple[Array, Array]:
    """Return the distance from each surface voxel of a mask to the other's surface, both ways.

    Source:
        Maier-Hein et al. 2024, doi:10.1038/s41592-023-02151-z.
    """
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
    return maps[1][edges[0]], maps[0][edges[1]]


def hausdorff_mm(
    predicted: Flags, truth: Flags, spacing_mm: Sequence[float], *, empty: Empty = FETS
) -> float:
    """Return the largest distance between the surfaces of two masks, in mm.

    Source:
        Huttenlocher et al. 1993, doi:10.1109/34.232073.
    """
    spacing = _require_spacing(predicted, truth, spacing_mm)
    known = _of_empty(predicted, truth, (0.0, empty.distance(truth.shape, spacing)))
    return (
        _monai("compute_hausdorff_distance", predicted, truth, spacing) if known is None else known
    )


def mean_surface_mm(
    predicted: Flags, truth: Flags, spacing_mm: Sequence[float], *, empty: Empty = FETS
) -> float:
    """Return the mean distance between surfaces over both directions, in mm (ASSD).

    Source:
        Heimann et al. 2009, doi:10.1109/TMI.2009.2013851.
    """
    spacing = _require_spacing(predicted, truth, spacing_mm)
    known = _of_empty(predicted, truth, (0.0, empty.distance(truth.shape, spacing)))
    if known is not None:
        return known
    return float(np.concatenate(surface_distances_mm(predicted, truth, spacing)).mean())


def nsd(
    predicted: Flags, truth: Flags, spacing_mm: Sequence[float], *, tolerance_mm: float
) -> float:
    """Return the share of both surfaces that lies within a tolerance of the other.

    Args:
        predicted: True where the class is predicted.
        truth: True where the class is, same shape.
        spacing_mm: Voxel size, one number for each dimension.
        tolerance_mm: Distance that two raters may differ by.

    Raises:
        UsageError: Shapes or dimensions differ (U80).

    Source:
        Nikolov et al. 2021, doi:10.2196/26151.
    """
    spacing = _require_spacing(predicted, truth, spacing_mm)
    if (known := _of_empty(predicted, truth, (1.0, 0.0))) is not None:
        return known
    thresholds = [tolerance_mm]
    return _monai("compute_surface_dice", predicted, truth, spacing, class_thresholds=thresholds)


def volume_error_ml(predicted: Flags, truth: Flags, spacing_mm: Sequence[float]) -> float:
    """Return the predicted minus the true volume, in ml; empty masks have volume 0.

    Source:
        Taha and Hanbury 2015, doi:10.1186/s12880-015-0068-x.
    """
    spacing = _require_spacing(predicted, truth, spacing_mm)
    return (int(predicted.sum()) - int(truth.sum())) * math.prod(spacing) / 1000


@dataclass(frozen=True)
class Lesions:
    """Lesions of one patient: found, missed and invented.

    Attributes:
        n_found: True lesions that a predicted one touches.
        n_missed: True lesions that none touches.
        n_invented: Predicted lesions that touch no true one.
    """

    n_found: int
    n_missed: int
    n_invented: int

    @property
    def f1(self) -> float:
        """Lesion-wise F1; 1 where no lesion is and none is predicted."""
        total = 2 * self.n_found + self.n_missed + self.n_invented
        return 2 * self.n_found / total if total else 1.0


def lesions(predicted: Flags, truth: Flags, *, least_overlap: float = 0.0) -> Lesions:
    """Count lesions: parts of a mask that touch by face, edge or corner.

    Args:
        predicted: True where a lesion is predicted.
        truth: True where a lesion is, same shape.
        least_overlap: Share of a lesion that must be covered by the other mask to count as touched.

    Raises:
        UsageError: The shapes differ (U80).

    Source:
        Commowick et al. 2018, doi:10.1038/s41598-018-31911-7 (MS lesions).
    """
    _require_same_shape(predicted, truth)
    n_true, n_found = _touched(truth, predicted, least_overlap)
    n_predicted, n_right = _touched(predicted, truth, least_overlap)
    return Lesions(n_found, n_true - n_found, n_predicted - n_right)


def _touched(mask: Flags, other: Flags, least: float) -> tuple[int, int]:
    parts, n = ndimage.label(mask, np.ones((3,) * mask.ndim))
    if n == 0:
        return 0, 0
    share = ndimage.mean(other.astype(float), parts, range(1, n + 1))
    return int(n), int((np.asarray(share) > least).sum())


def _of_empty(predicted: Flags, truth: Flags, scores: tuple[float, float]) -> float | None:
    """Return the score of both empty or of one empty; None where no mask is."""
    has = bool(predicted.any()), bool(truth.any())
    return None if all(has) else scores[any(has)]


def _require_same_shape(predicted: Flags, truth: Flags) -> None:
    if predicted.shape != truth.shape:
        raise unfit("shapes of masks", f"{predicted.shape} and {truth.shape}", "one shape")


def _require_spacing(
    predicted: Flags, truth: Flags, spacing_mm: Sequence[float]
) -> tuple[float, ...]:
    _require_same_shape(predicted, truth)
    if len(spacing_mm) != truth.ndim or not all(mm > 0 for mm in spacing_mm):
        want = f"{truth.ndim} positive numbers of mm, one for each dimension"
        raise unfit("voxel size", f"{tuple(spacing_mm)}", want)
    return tuple(map(float, spacing_mm))


def _monai(
    name: str, predicted: Flags, truth: Flags, spacing: tuple[float, ...], **options: Any
) -> float:
    import monai.metrics
    import torch

    compute: Callable[..., Any] = getattr(monai.metrics, name)
    with warnings.catch_warnings():  # MONAI 1.6 calls itself with an argument that it deprecates
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        pair = [torch.from_numpy(mask[None, None]) for mask in (predicted, truth)]
        return float(compute(*pair, include_background=True, spacing=spacing, **options))

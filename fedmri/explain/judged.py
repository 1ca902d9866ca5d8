"""Whether a map can be trusted: its share in the lesion, and what random weights make of it.

Source:
    Adebayo et al. 2018, Sanity checks for saliency maps, arXiv:1810.03292.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from fedmri.data.bids.bids_file import parse
from fedmri.data.files.volume import load_label
from fedmri.data.preparation.geometry import Grid
from fedmri.data.preparation.regrid import regrid_labels
from fedmri.data.scans import Scan
from fedmri.data.target import LabelMap
from fedmri.errors import DataError, UsageError
from fedmri.reports.statistics.bounds import Evidence, Method, bounded_mean, student
from fedmri.reports.statistics.influence import mean_of
from fedmri.reports.statistics.intervals import Estimate, estimate_of
from fedmri.reports.statistics.spread import spread_of

MASKS = frozenset({"mask", "dseg", "roi"})
"""Suffixes of label files in BIDS."""

_LESION = LabelMap("mask", ("lesion",), ("0:background", "*:lesion"))

SAME = 0.5
"""Mean rank correlation from which a map is called the same under random weights."""

_SHARE: Method = partial(bounded_mean, low=0.0, high=1.0, failure=0.0, unseen=0.3)


@dataclass(frozen=True)
class MaskFolder:
    """Masks by subject and session.

    Attributes:
        files: Files with BIDS names and a suffix of labels.
    """

    files: Mapping[tuple[str, str], tuple[Path, ...]]

    @classmethod
    def of(cls, folder: Path) -> MaskFolder:
        """Return the masks that lie anywhere in a folder.

        Raises:
            UsageError: It is no folder (U01).
        """
        if not folder.is_dir():
            fix = "name the folder with the masks, such as a BIDS derivative"
            raise UsageError("U01", "--masks", found=f"{folder}", want="a folder", fix=fix)
        found: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for path in sorted(folder.rglob("*.[nN][iI][iI]*")):
            who, file = parse(path)
            if file is not None and file.suffix in MASKS:
                found[who].append(path)
        return cls({who: tuple(paths) for who, paths in found.items()})

    def mask_of(self, scan: Scan, own: Grid) -> tuple[np.ndarray | None, str]:
        """Return a scan's mask on its own grid, bool; or None and why there is none.

        Every value but 0 is lesion.
        """
        files = self.files.get((scan.subject, scan.session), ())
        if len(files) != 1:
            return None, f"{len(files)} masks" if files else "no mask"
        try:
            labels, affine = load_label(files[0], _LESION)
        except DataError as error:
            return None, str(error)
        grid = Grid.of(labels.shape, affine)
        mask: np.ndarray = regrid_labels(labels.reshape(grid.shape), grid, own) > 0
        return (mask, "") if mask.any() else (None, "an empty mask")


def share_inside(saliency: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of a map within a mask, both of one shape; NaN for a map of zeros."""
    total = float(saliency.sum())
    return float(saliency[mask].sum()) / total if total > 0 else math.nan


def by_patient(values: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    """Return the mean of each patient's finite values; patients without one are left out."""
    return tuple(_finite_means(values))


def _finite_means(values: Mapping[str, Sequence[float]]) -> Iterator[float]:
    for _, own in sorted(values.items()):
        finite = [value for value in own if math.isfinite(value)]
        if finite:
            yield float(np.mean(finite))


def mean_share(values: Sequence[float]) -> Estimate:
    """Return the mean share over patients with its interval; none below five patients."""
    return _estimate(values, _SHARE)


def mean_difference(values: Sequence[float]) -> Estimate:
    """Return the mean difference over patients with Student's interval."""
    return _estimate(values, student)


def _estimate(values: Sequence[float], method: Method) -> Estimate:
    array, n = np.asarray(values, dtype=np.float64), len(values)
    if n < 2:
        return estimate_of(float(array.mean()) if n else math.nan, math.nan, math.nan, n)
    [part] = mean_of(array)
    spread = spread_of(part.influence[None] / n, np.zeros(1), np.zeros(n, dtype=np.intp))
    bounds = method(Evidence((part,), (spread,), (1.0,), np.eye(1), n))
    return estimate_of(part.value, bounds.low, bounds.high, n)


def likeness(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> float:
    """Return Spearman's correlation of two maps within the head; NaN where one is flat.

    Args:
        first: Any shape.
        second: The same shape.
        inside: True where the image is not air; the same shape.
    """
    ranks = [rankdata(each[inside]) for each in (first, second)]
    if len(ranks[0]) < 2 or any(rank.std() < 1e-9 for rank in ranks):
        return math.nan
    return float(np.corrcoef(ranks)[0, 1])


def verdict(correlations: Sequence[float]) -> str:
    """Return what the correlations with an untrained network say of a method."""
    known = [abs(value) for value in correlations if math.isfinite(value)]
    if not known:
        return "unknown"
    return "changes" if float(np.mean(known)) < SAME else "stays the same: do not trust these maps"

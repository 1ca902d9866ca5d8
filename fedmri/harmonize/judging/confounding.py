"""How much of what a model shall predict lies between sites: taking the scanner out takes that too.

Source:
    Bergsma 2013, doi:10.1016/j.jkss.2012.10.002 (Cramér's V without its bias for small tables).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmri.harmonize.cautions import Caution
from fedmri.harmonize.combat.site_table import Array

MUCH = 0.14
"""Share of the variance between sites from which on it is told: a large effect by Cohen."""
MUCH_V = 0.3


def share_between(values: Array, sites: NDArray[Any]) -> float:
    """Return the share of the variance of a number that lies between sites (eta squared).

    Args:
        values: Shape ``(n,)``, finite.
        sites: Site of each, ``(n,)``.
    """
    total = float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    if total <= 0:
        return 0.0
    _, place = np.unique(sites, return_inverse=True)
    counts = np.bincount(place)
    means = np.bincount(place, values) / counts
    return float((counts * (means - values.mean()) ** 2).sum() / total)


def cramers_v(classes: NDArray[Any], sites: NDArray[Any]) -> float:
    """Return how far the site tells the class: 0 not at all, 1 wholly; corrected for its bias."""
    rows, row = np.unique(classes, return_inverse=True)
    columns, column = np.unique(sites, return_inverse=True)
    n, r, c = len(classes), len(rows), len(columns)
    if min(r, c) < 2 or n < 2:
        return 0.0
    counts = np.zeros((r, c))
    np.add.at(counts, (row, column), 1)
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / n
    phi2 = float(((counts - expected) ** 2 / expected).sum()) / n
    corrected = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
    r_bar, c_bar = (k - (k - 1) ** 2 / (n - 1) for k in (r, c))
    return float(np.sqrt(corrected / max(min(r_bar, c_bar) - 1, 1e-12)))


def said(name: str, target: NDArray[Any], sites: NDArray[Any]) -> str:
    """Return in words how much of a target lies between sites."""
    if np.issubdtype(target.dtype, np.number):
        share = share_between(target.astype(np.float64), sites)
        return f"{share:.0%} of the variance of {name} lies between sites"
    return f"{name} depends on the site: Cramér's V {cramers_v(target, sites):.2f} (0 to 1)"


def confounded(name: str, target: NDArray[Any], sites: NDArray[Any]) -> list[Caution]:
    """Return what is to be told of a target that differs much between sites (H36).

    Args:
        name: Of the target.
        target: Numbers, or texts as classes, of the rows that have one, ``(n,)``.
        sites: Site of each, ``(n,)``.
    """
    is_number = bool(np.issubdtype(target.dtype, np.number))
    measure = share_between(target.astype(np.float64), sites) if is_number else 0.0
    is_much = measure >= MUCH if is_number else cramers_v(target, sites) >= MUCH_V
    if not is_much:
        return []
    thing = name if is_number else "mixture"
    text = (
        f"{said(name, target, sites)}. Harmonization removes this difference together with "
        f"the scanner. At a new site a model then predicts the mean {thing} of the other sites. "
        "Compare the errors before and after. Labelled patients of the new site correct much of it."
    )
    return [Caution("H36", text)]

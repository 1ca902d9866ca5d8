"""What a preparation did to the intensities of a label: clipped flat, or set to air."""

from __future__ import annotations

import numpy as np

from fedmri.data.preparation.cache import open_array
from fedmri.data.preparation.prepared import PreparedScan
from fedmri.data.settings import PrepareConfig

LEAST_SHARE = 0.01
"""Share of a label that may be clipped or erased without a word."""
TOP = 1.0
"""What ``percentile`` makes of all that is brighter than the head's 99th."""


def erased_labels(scan: PreparedScan, config: PrepareConfig) -> list[tuple[str, str]]:
    """Return a code and a reason for each way in which a label lost its intensities.

    Args:
        scan: As it lies in the cache.
        config: How it was prepared.

    Returns:
        D48 where a label was clipped flat in a modality, D49 where it became air in one.

    Raises:
        DataError: A cached array is damaged (D44).
    """
    if scan.label is None:
        return []
    is_label = np.asarray(open_array(scan.label)) > 0
    if not is_label.any():
        return []
    image = open_array(scan.image)
    found = []
    for channel, is_present in enumerate(scan.present):
        if not is_present:
            continue
        inside = image[channel][is_label]
        clipped, air = float(np.mean(inside == TOP)), float(np.mean(inside == 0))
        where = f"of the label's voxels in modality {channel + 1}"
        if config.scaling == "percentile" and clipped > LEAST_SHARE:
            found.append(("D48", f"{clipped:.1%} {where} are clipped to 1"))
        if (config.scaling == "zscore" or config.is_skull_stripped) and air > LEAST_SHARE:
            found.append(("D49", f"{air:.1%} {where} are 0, as air is"))
    return found

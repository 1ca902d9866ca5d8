"""Which slices of a volume become examples, and how a slice is taken with its neighbours."""

from __future__ import annotations

import numpy as np

from fedmri.data.settings import PrepareConfig
from fedmri.errors import DataError


def slice_stride(n_total: int, n_wanted: int) -> int:
    """Return the step between extracted slices: ``floor(n_total / n_wanted)``, at least 1.

    ``n_wanted`` of 0 wants all slices, and so does one above ``n_total``.
    """
    return max(1, n_total // n_wanted) if n_wanted else 1


def slice_indices(n_total: int, config: PrepareConfig) -> tuple[int, ...]:
    """Return the positions of the slices that are used, ascending.

    Every ``slice_stride``-th slice is extracted from the first on, then the first ``skip_first``
    and the last ``skip_last`` of the *extracted* slices are left out. Because the stride is
    rounded down, more than ``n_slices`` may be extracted.

    Args:
        n_total: Slices of the volume along the slicing axis.
        config: Its ``n_slices``, ``skip_first`` and ``skip_last`` are read.

    Returns:
        Positions along the slicing axis; at least one.

    Raises:
        DataError: No slice is left (D42).
    """
    extracted = tuple(range(0, n_total, slice_stride(n_total, config.n_slices)))
    kept = extracted[config.skip_first : len(extracted) - config.skip_last]
    if config.skip_first + config.skip_last >= len(extracted):
        raise DataError(
            "D42",
            "slices of a volume",
            found=f"{len(extracted)} extracted of {n_total}",
            want=f"more than the {config.skip_first + config.skip_last} that are skipped",
            fix="lower prepare.skip_first and prepare.skip_last, or raise prepare.n_slices",
        )
    return kept


def take_slice(volume: np.ndarray, index: int, n_neighbours: int = 0) -> np.ndarray:
    """Return a slice, with its neighbours as further channels.

    Beyond the first and the last slice, that slice is repeated.

    Args:
        volume: Shape ``(C, D, H, W)``; ``D`` is the slicing axis.
        index: Position along ``D``.
        n_neighbours: Slices taken on each side.

    Returns:
        Shape ``(C * (2 * n_neighbours + 1), H, W)``: the channels of one modality stay together,
        in the order of ``D``.
    """
    positions = np.arange(index - n_neighbours, index + n_neighbours + 1)
    taken = volume[:, positions.clip(0, volume.shape[1] - 1)]
    return taken.reshape(-1, *volume.shape[2:])

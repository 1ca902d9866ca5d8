"""Federated quantiles of intensities, from counts: bins that are refined where they matter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmri.errors import HarmonizeError
from fedmri.harmonize.sums import Arrays

Image = NDArray[np.float32]
"""Channels of an image, shape ``(C, D, H, W)``; air and missing modalities are 0."""

_POWERS = np.exp2(np.arange(-126, 129, dtype=np.float64))
OCTAVES = np.concatenate([-_POWERS[::-1], _POWERS])
"""Edges that cover all finite numbers of 32 bits, each twice as large as the one before."""
N_BINS = len(OCTAVES) - 1
COUNTS, EDGES, QUANTILES = "counts", "edges", "quantiles"
ROBUST = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of all sites' head voxels as a stage of sums; see ``fedmri.harmonize.sums``.

    Step 0 counts in fixed bins, an octave each; each further step cuts the bin that holds a
    quantile into 509 equal ones. No smallest or largest value leaves a site. What is found lies
    within half a last bin of the order statistic of rank ``ceil(q n)``: below a relative 2e-6 after
    the two refinements here. The head is where a channel is not 0.

    Attributes:
        n_channels: Channels of an image; each has quantiles of its own.
        shares: Quantiles, each above 0 and up to 1.
    """

    n_channels: int
    shares: tuple[float, ...] = ROBUST
    n_steps: int = 3

    def site_sums(self, step: int, data: Iterable[Image], shared: Arrays) -> Arrays:
        """Return how many voxels lie in each bin, below all and above all of them.

        Returns:
            ``counts`` of shape ``(C, n_shares, 511)``; exact integers.
        """
        edges = self._refined(step, shared) if step else self._first_edges()
        counts = np.zeros((*edges.shape[:2], N_BINS + 2))
        for image in data:
            for channel in range(self.n_channels):
                head = np.sort(image[channel][image[channel] != 0].astype(np.float64))
                below = np.searchsorted(head, edges[channel], side="left")
                counts[channel] += np.diff(below, prepend=0, append=len(head), axis=-1)
        return {COUNTS: counts}

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return the edges of finer bins; after the last step the quantiles, shape ``(C, n)``.

        Raises:
            HarmonizeError: A channel has no voxel in a head at any site (H20).
        """
        edges = shared[EDGES] if step else self._first_edges()
        refuse_empty(total[COUNTS][:, 0].sum(axis=-1))
        bins = np.array([[self._bin(*pair) for pair in self._pairs(row)] for row in total[COUNTS]])
        low = np.take_along_axis(edges, bins[..., None], axis=-1)[..., 0]
        high = np.take_along_axis(edges, bins[..., None] + 1, axis=-1)[..., 0]
        if step == self.n_steps - 1:
            return {QUANTILES: (low + high) / 2}
        return {EDGES: np.linspace(low, high, N_BINS + 1, axis=-1)}

    def _refined(self, step: int, shared: Arrays) -> NDArray[np.float64]:
        """Return the edges of a step; refuse any that no honest step before it leads to.

        Counts between edges of the server's choice would show single voxels.

        Raises:
            HarmonizeError: They are others (H21).
        """
        edges = shared.get(EDGES, np.zeros(0))
        form = (self.n_channels, len(self.shares), N_BINS + 1)
        if edges.shape != form or not all(
            self._is_refined(row, step) for row in edges.reshape(-1, N_BINS + 1)
        ):
            fix = "run the version of fedmri that the server runs; else ask the coordinator"
            what, want = f"edges of bins in step {step}", "equal bins within one of the step before"
            raise HarmonizeError("H21", what, found="others", want=want, fix=fix)
        return edges

    @staticmethod
    def _is_refined(row: NDArray[np.float64], step: int) -> bool:
        low, high = OCTAVES[:-1], OCTAVES[1:]
        if not np.isfinite(row).all() or not OCTAVES[0] <= row[0] < row[-1] <= OCTAVES[-1]:
            return False
        for _ in range(step - 1):  # the bins of the step before, in the octave that holds these
            place = int(np.searchsorted(low, row[:2].mean(), side="right")) - 1
            low = np.linspace(low[place], high[place], N_BINS + 1)
            low, high = low[:-1], low[1:]
        place = int(np.searchsorted(low, row[:2].mean(), side="right")) - 1
        wanted = np.linspace(low[place], high[place], N_BINS + 1)
        return bool(np.allclose(row, wanted, rtol=1e-12, atol=0))

    def _first_edges(self) -> NDArray[np.float64]:
        return np.broadcast_to(OCTAVES, (self.n_channels, len(self.shares), N_BINS + 1))

    def _pairs(self, row: NDArray[np.float64]) -> Iterable[tuple[float, NDArray[np.float64]]]:
        return zip(self.shares, row, strict=True)

    @staticmethod
    def _bin(share: float, counts: NDArray[np.float64]) -> int:
        # ranks are taken anew in each step: a site may have been lost since the last
        rank = np.ceil(share * counts.sum())
        place = int(np.searchsorted(np.cumsum(counts), rank, side="left"))
        return min(max(place - 1, 0), N_BINS - 1)


def refuse_empty(n_voxels: NDArray[np.float64]) -> None:
    """Refuse channels that no site has a voxel of.

    Raises:
        HarmonizeError: There is one (H20).
    """
    empty = np.flatnonzero(n_voxels < 1)
    if len(empty):
        fix = "look at that modality's images: `fedmri data check` names the empty ones"
        what = f"intensities of channel {int(empty[0])}"
        want = "one voxel that is not 0 at any site"
        raise HarmonizeError("H20", what, found="none", want=want, fix=fix)

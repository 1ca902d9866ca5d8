"""Settings of the secure aggregation room."""

from __future__ import annotations

from dataclasses import dataclass

from fedmri.errors import require
from fedmri.secagg.ring import LEAST_BITS, MOST_BITS


@dataclass(frozen=True)
class SecAggConfig:
    """Whether the server learns the sites' updates, or their weighted mean alone.

    Attributes:
        is_on: Whether updates and sums for harmonization are masked before they leave a site.
        threshold: Sites that must stay to the end of a sum; a sum needs at least as many. 0 takes
            two thirds, rounded up.
        fraction_bits: An update's values, times the site's weight, are rounded to multiples of ``2
            ** -fraction_bits``. They must stay below ``2 ** (63 - fraction_bits)`` over the number
            of sites.
    """

    is_on: bool = False
    threshold: int = 0
    fraction_bits: int = 32

    def __post_init__(self) -> None:
        require(self.threshold >= 0, "secagg.threshold", self.threshold, "0 or more")
        bits = self.fraction_bits
        is_known = LEAST_BITS <= bits <= MOST_BITS
        require(is_known, "secagg.fraction_bits", bits, f"{LEAST_BITS} to {MOST_BITS}")

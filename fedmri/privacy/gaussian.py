"""The Gaussian mechanism without sampling, exactly: what it costs, and the noise for an epsilon.

Every patient is in every release. Releases with noise multipliers ``z`` cost as much as one whose
``mu`` is the root of the sum of ``1 / z**2``.

Source:
    Balle and Wang 2018, Improving the Gaussian mechanism for differential privacy: analytical
    calibration and optimal denoising, arXiv:1805.06530, theorem 8; Dong, Roth and Su 2019,
    Gaussian differential privacy, arXiv:1905.02383 (composition).
"""

from __future__ import annotations

import math

from scipy.special import log_ndtr, ndtr

MOST_EPSILON = 1e6
"""Where the search ends: nothing is hidden long before."""
ROUNDED_UP = 1e-9
"""What is added for the rounding of the search: nobody is told too little."""


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Return the delta that goes with an epsilon, for a shift of ``mu`` deviations of the noise."""
    far = math.exp(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)))
    return float(ndtr(mu / 2 - epsilon / mu)) - far


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the least epsilon that goes with a delta; 0 where delta alone is enough."""
    if mu == 0 or gaussian_delta(0.0, mu) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(high, mu) > delta and high < MOST_EPSILON:
        high *= 2
    if high >= MOST_EPSILON:
        return math.inf
    from scipy.optimize import brentq  # slow to import

    found = brentq(lambda epsilon: gaussian_delta(epsilon, mu) - delta, 0.0, high, xtol=1e-12)
    return float(found) + ROUNDED_UP

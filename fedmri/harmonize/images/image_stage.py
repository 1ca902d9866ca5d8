"""The plan's harmonization of images: what is fitted by sums, and what it does to an image."""

from __future__ import annotations

import numpy as np

from fedmri.errors import HarmonizeError
from fedmri.harmonize.images.bounded_nyul import BoundedNyul
from fedmri.harmonize.images.moments import MEAN, VARIANCE, Moments, Scaled
from fedmri.harmonize.images.nyul import LANDMARKS, NORMAL_IQR, PERCENTILES, Nyul, Standardised
from fedmri.harmonize.images.quantiles import QUANTILES, ROBUST, Quantiles
from fedmri.harmonize.settings import HarmonizeConfig
from fedmri.harmonize.sums import Arrays

ImageStage = Nyul | BoundedNyul | Moments | Quantiles
ImageChange = Standardised | Scaled


def image_stage(config: HarmonizeConfig, n_channels: int) -> ImageStage | None:
    """Return what is fitted before the rounds, for images of so many channels; None for nothing."""
    if config.is_bounded:
        return BoundedNyul(n_channels)
    if config.image == "nyul":
        return Nyul(n_channels, is_site_weighted=config.weighting == "site")
    if config.image == "zscore":
        return Moments(n_channels)
    return Quantiles(n_channels) if config.image == "robust" else None


def image_change(config: HarmonizeConfig, n_channels: int, parameters: Arrays) -> ImageChange:
    """Return what is done to images under fitted parameters.

    Raises:
        HarmonizeError: They are not those of the plan's stage (H21).
    """
    found = {name: values.shape for name, values in parameters.items()}
    want = _shapes(config, n_channels)
    if not want or found != want:
        fix = "run the same version of fedmri as the server"
        what = "parameters of the images' harmonization"
        raise HarmonizeError("H21", what, found=f"{found}", want=f"{want}", fix=fix)
    if config.image == "nyul":
        return Standardised(parameters)
    if config.image == "zscore":
        return Scaled(parameters[MEAN], np.sqrt(parameters[VARIANCE]))
    low, middle, high = parameters[QUANTILES].T
    return Scaled(middle, (high - low) / NORMAL_IQR)


def _shapes(config: HarmonizeConfig, n_channels: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "none": {},
        "nyul": {LANDMARKS: (n_channels, len(PERCENTILES))},
        "zscore": {MEAN: (n_channels,), VARIANCE: (n_channels,)},
        "robust": {QUANTILES: (n_channels, len(ROBUST))},
    }
    return shapes[config.image]

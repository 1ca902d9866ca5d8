"""The plan's harmonization of images: what is fitted by sums, and what it does to an image."""

from __future__ import annotations

from fedmri.errors import HarmonizeError
from fedmri.harmonize.nyul import LANDMARKS, PERCENTILES, Nyul, Standardised
from fedmri.harmonize.settings import HarmonizeConfig
from fedmri.harmonize.sums import Arrays

ImageStage = Nyul
ImageChange = Standardised


def image_stage(config: HarmonizeConfig, n_channels: int) -> ImageStage | None:
    """Return what is fitted before the rounds, for images of so many channels; None for nothing."""
    if config.image == "none":
        return None
    return Nyul(n_channels, is_site_weighted=config.weighting == "site")


def image_change(config: HarmonizeConfig, n_channels: int, parameters: Arrays) -> ImageChange:
    """Return what is done to images under fitted parameters.

    Raises:
        HarmonizeError: They are not those of the plan's stage (H21).
    """
    found = {name: values.shape for name, values in parameters.items()}
    want = {LANDMARKS: (n_channels, len(PERCENTILES))}
    if config.image == "none" or found != want:
        fix = "run the same version of fedmri as the server"
        what = "parameters of the images' harmonization"
        raise HarmonizeError("H21", what, found=f"{found}", want=f"{want}", fix=fix)
    return Standardised(parameters)

"""Settings of the harmonization room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmri.errors import ConfigError, require


@dataclass(frozen=True)
class HarmonizeConfig:
    """How images of different scanners are brought together before the rounds.

    Attributes:
        image: ``nyul`` maps each image's histogram to landmarks that all sites share; ``zscore``
            and ``robust`` scale all images by one mean and standard deviation, or one median and
            interquartile range, of all sites' voxels.
        weighting: Whether each image or each site counts the same in the landmarks.
    """

    image: Literal["none", "nyul", "zscore", "robust"] = "none"
    weighting: Literal["image", "site"] = "image"

    def __post_init__(self) -> None:
        known = ("none", "nyul", "zscore", "robust")
        require(self.image in known, "harmonize.image", self.image, ", ".join(known))

    def refuse_scaled(self, scaling: str) -> None:
        """Refuse a scale for all sites where each image was given its own before.

        Args:
            scaling: The plan's ``data.prepare.scaling``.

        Raises:
            ConfigError: Nothing of the sites' scales is left to bring together (C03).
        """
        if self.image in ("zscore", "robust") and scaling != "none":
            fix = "set data.prepare.scaling=none, or harmonize.image=nyul"
            what, want = (
                f"harmonize.image {self.image}",
                "images with the scanner's own intensities",
            )
            raise ConfigError("C03", what, found=f"scaling {scaling}", want=want, fix=fix)

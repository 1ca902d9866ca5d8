"""Settings of the harmonization room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmri.errors import require


@dataclass(frozen=True)
class HarmonizeConfig:
    """How images of different scanners are brought together before the rounds.

    Attributes:
        image: ``nyul`` maps each image's histogram to landmarks that all sites share.
        weighting: Whether each image or each site counts the same in the landmarks.
    """

    image: Literal["none", "nyul"] = "none"
    weighting: Literal["image", "site"] = "image"

    def __post_init__(self) -> None:
        require(self.image in ("none", "nyul"), "harmonize.image", self.image, "none or nyul")

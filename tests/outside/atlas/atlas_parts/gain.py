"""Gain: images of all sites are divided by the mean brightness that they have together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fedmri.claims import Claim, Claims
from fedmri.stages.stage import AtSite, ImageChange, Made, Place, Stage, When

Arrays = dict[str, Any]


@dataclass(frozen=True)
class _Brightness:
    """Sums of brightness by channel: what a site adds, and what comes of the total."""

    n_channels: int
    n_steps: int = 1

    def site_sums(self, step: int, data: Iterable[Any], shared: Arrays) -> Arrays:
        total, count = np.zeros(self.n_channels), np.zeros(1)
        for image in data:
            total += image.reshape(self.n_channels, -1).mean(axis=1)
            count += 1
        return {"total": total, "count": count}

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        return {"gain": np.abs(total["total"]) / total["count"] + 1e-3}


@dataclass(frozen=True)
class _Divided:
    gain: Any

    def __call__(self, key: str, whole: Any, part: Any) -> Any:
        by = self.gain.reshape(-1, *[1] * (part.ndim - 1))
        return (part / by).astype(np.float32)


@dataclass(frozen=True)
class Gain(Stage):
    """One gain for the images of all sites.

    Attributes:
        target: Mean brightness afterwards.
    """

    target: float = 1.0

    place: ClassVar[Place] = Place.IMAGES
    when: ClassVar[When] = When.BEFORE_ROUNDS
    is_scored_with: ClassVar[bool] = True
    claims: ClassVar[Claims] = frozenset(
        {Claim.SUM_IS_ENOUGH, Claim.BLIND_TO_PATIENTS, Claim.UPDATE_UNTOUCHED}
    )
    source: ClassVar[str] = "made for a test"
    consent: ClassVar[str] = "the sum of the brightness of your training scans"

    def fit(self, made: Made) -> _Brightness:
        """Return the sums of brightness."""
        return _Brightness(made.n_channels)

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return the sums over training scans."""
        return self.fit(at.made).site_sums(step, at.data.scans("train"), shared)

    def image_change(self, made: Made, fitted: Arrays) -> ImageChange:
        """Return the common gain."""
        return _Divided(fitted["gain"] / self.target)

    def refuse_fitted(self, made: Made, fitted: Arrays) -> None:
        """Refuse a gain of another shape."""
        if {name: values.shape for name, values in fitted.items()} != {"gain": (made.n_channels,)}:
            raise ValueError("another gain than the plan's")

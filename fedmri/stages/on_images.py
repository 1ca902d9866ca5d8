"""What stages of images share: they are fitted before the rounds, over training scans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import ConfigError, HarmonizeError
from fedmri.harmonize.sums import Arrays
from fedmri.stages.floor import by_channel, without_channels
from fedmri.stages.stage import AtSite, Made, Place, Stage, When

if TYPE_CHECKING:
    from fedmri.data.batches.site_data import Voxels
    from fedmri.plan import Plan

SUMS_OF_IMAGES: Claims = frozenset(
    {Claim.SUM_IS_ENOUGH, Claim.BLIND_TO_PATIENTS, Claim.UPDATE_UNTOUCHED}
)
"""Claims of a stage that is fitted once, by sums over images, and changes images alone."""


class OnImages(Stage):
    """A stage of images; what is fitted goes with every order, also where a model is scored."""

    place: ClassVar[Place] = Place.IMAGES
    when: ClassVar[When] = When.BEFORE_ROUNDS
    is_scored_with: ClassVar[bool] = True

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return the sums over training scans, without modalities that too few patients have."""
        sums = self.fit(at.made)
        assert sums is not None, "a stage of images is fitted"
        return sums.site_sums(step, training_scans(at), shared)

    def refuse_fitted(self, made: Made, fitted: Arrays) -> None:
        """Refuse parameters of other names or shapes than ``image_change`` reads (H21)."""
        self.image_change(made, fitted)


def training_scans(at: AtSite) -> Iterator[Voxels]:
    """Yield the training scans; a modality that too few patients have is zero in all of them."""
    scans = at.data.scans("train")
    n_least = at.account.n_least
    if not n_least:
        return scans
    return without_channels(scans, by_channel(at.data, at.made.n_channels, n_least))


def refuse_scaled(plan: Plan, name: str) -> None:
    """Refuse a scale for all sites where each image was given its own before (C03)."""
    scaling = plan.data.prepare.scaling
    if scaling != "none":
        fix = "set data.prepare.scaling=none, or harmonize=nyul"
        what, want = f"stage {name}", "images with the scanner's own intensities"
        raise ConfigError("C03", what, found=f"scaling {scaling}", want=want, fix=fix)


def refuse_other(fitted: Arrays, want: dict[str, tuple[int, ...]]) -> None:
    """Refuse fitted parameters of other names or shapes than the stage's (H21)."""
    found = {name: values.shape for name, values in fitted.items()}
    if found != want:
        fix = "run the same version of fedmri as the server"
        what = "parameters of the images' harmonization"
        raise HarmonizeError("H21", what, found=f"{found}", want=f"{want}", fix=fix)

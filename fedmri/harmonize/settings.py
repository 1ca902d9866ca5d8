"""Settings of the harmonization room."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from fedmri.errors import ConfigError, HarmonizeError, require
from fedmri.harmonize.combat.model import Mode, refuse_target
from fedmri.round import Target

IMAGES = ("nyul", "zscore", "robust")
EMBEDDINGS = ("coral", "fedharmony", "combat")


@dataclass(frozen=True)
class TableConfig:
    """ComBat on tables of features; each site has its own table.

    Attributes:
        features: Columns to harmonize, the same at all sites; none where the plan is for images.
        covariates: Columns whose effect is kept: ``age`` for numbers, ``sex=F|M`` for categories,
            with all levels that any site has.
        mode: See ``fedmri harmonize``.
        reference: Site to whose scale the others are brought; empty for none.
        smooth: Covariates that are numbers and whose effect may bend, as that of age does.
        is_covbat: How features vary together is brought in line too.
    """

    features: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    mode: Mode = "eb"
    reference: str = ""
    smooth: tuple[str, ...] = ()
    is_covbat: bool = False

    def __post_init__(self) -> None:
        for name in ("features", "covariates"):
            columns = [text.partition("=")[0].strip() for text in getattr(self, name)]
            is_fine = all(columns) and len(set(columns)) == len(columns)
            require(is_fine, f"harmonize.table.{name}", getattr(self, name), "each column once")
        levels = [text.partition("=")[2].split("|") for text in self.covariates if "=" in text]
        is_fine = all(len(set(of)) == len(of) > 1 and all(of) for of in levels)
        want = "two levels or more, as in sex=F|M"
        require(is_fine, "harmonize.table.covariates", self.covariates, want)
        is_fine = set(self.smooth) <= set(self.covariates)
        require(is_fine, "harmonize.table.smooth", self.smooth, "covariates that are numbers")

    def refuse_simulation(self) -> None:
        """Refuse to simulate a plan for tables (H25)."""
        if self.features:
            fix = "use `fedmri harmonize TABLE --site-column …`, which simulates the table's sites"
            what, want = "a simulation of tables of features", "a plan for images"
            raise HarmonizeError("H25", what, found="harmonize.table", want=want, fix=fix)

    def refuse_training(self, target: Target, n_rounds: int) -> None:
        """Refuse a plan for tables that also trains, or that keeps what shall be predicted.

        Raises:
            HarmonizeError: It has rounds (H25), or the target is a kept covariate (H07).
        """
        refuse_target((text.partition("=")[0] for text in self.covariates), target.name)
        if self.features and n_rounds:
            fix = "set rounds.n_rounds=0; train with another plan, on the tables that come of it"
            what, found = "a plan for tables of features", f"{n_rounds} rounds"
            raise HarmonizeError("H25", what, found=found, want="0 rounds", fix=fix)


@dataclass(frozen=True)
class HarmonizeConfig:
    """How what scanners put in is taken out: of images before the rounds, of embeddings in them.

    Attributes:
        image: ``nyul`` maps each image's histogram to landmarks that all sites share. ``zscore``
            scales all images by one mean and standard deviation of all sites' voxels. ``robust``
            scales them by one median and interquartile range.
        weighting: Whether each image, each patient or each site counts the same in the landmarks.
        noise_multiplier: Standard deviation of each site's noise on the sums of landmarks; 0 adds
            none. Its unit is the most that one patient (``weighting=patient``) or one site
            (``weighting=site``) can add. It is accounted for with the plan's other noise of the
            same unit.
        embedding: What is done to embeddings, which the last layer of a network reads. ``coral``
            adds to the loss the distance of a site's mean and covariance from those of all sites.
            ``fedharmony`` adds how well a second head recognizes the site. ``combat`` removes each
            site's shift and stretch before the last layer reads the embeddings.
        strength: Factor of what is added to the loss.
        is_by_class: Classification: ``coral`` matches within each class. So sites with different
            prevalence are not pulled together where they rightly differ.
        n_min: ComBat: a site with fewer training examples, or rows, takes no part in the fit.
        table: Tables of features instead of images.
    """

    image: Literal["none", "nyul", "zscore", "robust"] = "none"
    weighting: Literal["image", "patient", "site"] = "image"
    noise_multiplier: float = 0.0
    embedding: Literal["none", "coral", "fedharmony", "combat"] = "none"
    strength: float = 1.0
    is_by_class: bool = True
    n_min: int = 10
    table: TableConfig = field(default_factory=TableConfig)

    def __post_init__(self) -> None:
        for name, known in (("image", IMAGES), ("embedding", EMBEDDINGS)):
            value = getattr(self, name)
            is_known = value in ("none", *known)
            require(is_known, f"harmonize.{name}", value, ", ".join(("none", *known)))
        known = ("image", "patient", "site")
        require(self.weighting in known, "harmonize.weighting", self.weighting, ", ".join(known))
        self._require_bounded()
        require(self.strength >= 0, "harmonize.strength", self.strength, "0 or more")
        require(self.n_min >= 2, "harmonize.n_min", self.n_min, "2 or more")

    @property
    def is_bounded(self) -> bool:
        """Whether sums of landmarks are such that it is known what one patient or site adds."""
        is_noised = self.noise_multiplier > 0
        return self.image == "nyul" and (is_noised or self.weighting == "patient")

    @property
    def has_bare_sums(self) -> bool:
        """Whether sums leave that no noise for one patient is on."""
        is_covered = self.noise_multiplier > 0 and self.weighting == "patient"
        is_image = self.image != "none" and not is_covered
        return is_image or self.embedding != "none" or bool(self.table.features)

    def alone(self) -> HarmonizeConfig:
        """Return it for one data holder: a hospital by itself hides in no sum over hospitals."""
        return replace(self, noise_multiplier=0.0) if self.weighting == "site" else self

    def _require_bounded(self) -> None:
        noise = self.noise_multiplier
        require(0 <= noise < math.inf, "harmonize.noise_multiplier", noise, "0 or more")
        is_alone = self.image == "nyul" and self.embedding == "none" and not self.table.features
        want = "0 but with harmonize=nyul alone: what one patient adds to other sums has no bound"
        require(not noise or is_alone, "harmonize.noise_multiplier", noise, want)
        want = "patient or site with noise: what a patient of several images adds has no bound"
        is_unit = self.weighting != "image"
        require(not noise or is_unit, "harmonize.weighting", self.weighting, want)

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

    def n_groups(self, target: Target) -> int:
        """Return within how many groups embeddings are matched: classes, or one of all."""
        is_matched = self.embedding == "coral" and self.is_by_class
        return target.n_groups if is_matched else 1

    def refuse_embedding(self, target: Target, *, is_private: bool, is_mixed: bool) -> None:
        """Refuse to work on embeddings where a plan has none, or none that may be told of.

        Args:
            target: What the plan predicts.
            is_private: The plan trains with differential privacy.
            is_mixed: Training examples are mixed with each other.

        Raises:
            HarmonizeError: The network answers each voxel (H22), sums over embeddings would go
                beside the noise (H23), or a mixed example has no class to match it in (H24).
        """
        if self.embedding == "none":
            return
        what = f"harmonize.embedding {self.embedding}"
        if target.answer == "voxel":
            fix = "set harmonize.embedding=none; harmonize.image=nyul works on the images"
            want = "one answer an image, from one embedding"
            raise HarmonizeError("H22", what, found=target.title, want=want, fix=fix)
        if is_private:
            fix = "set harmonize.embedding=none, or train without differential privacy"
            found = "differential privacy, whose noise is not on sums over embeddings"
            want = "a plan without it"
            raise HarmonizeError("H23", what, found=found, want=want, fix=fix)
        if is_mixed and self.n_groups(target) > 1:
            fix = "set data.augment.mixup=0 data.augment.cutmix=0, or harmonize.is_by_class=false"
            found = "examples that are mixed of two"
            raise HarmonizeError("H24", what, found=found, want="one class an example", fix=fix)


def refuse_same_place(names: tuple[str, ...]) -> None:
    """Refuse a list of harmonizations of which one would silently replace another.

    Args:
        names: As in ``harmonize=[nyul,coral]``.

    Raises:
        ConfigError: Two are for images or for embeddings, or ``none`` is not alone (C03).
    """
    for place, known in (("images", IMAGES), ("embeddings", EMBEDDINGS)):
        found = [name for name in names if name in known]
        if len(found) > 1:
            fix = f"choose one of {', '.join(found)}"
            what, want = "the list harmonize", f"one for {place} at most"
            raise ConfigError("C03", what, found=", ".join(found), want=want, fix=fix)
    if "none" in names and len(names) > 1:
        fix, what = "leave none out of the list", "the list harmonize"
        raise ConfigError("C03", what, found=", ".join(names), want="none alone", fix=fix)

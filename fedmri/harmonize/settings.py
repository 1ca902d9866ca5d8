"""Settings of the harmonization room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedmri.errors import ConfigError, HarmonizeError, require
from fedmri.round import Target

IMAGES = ("nyul", "zscore", "robust")
EMBEDDINGS = ("coral", "fedharmony", "combat")


@dataclass(frozen=True)
class HarmonizeConfig:
    """How what scanners put in is taken out: of images before the rounds, of embeddings in them.

    Attributes:
        image: ``nyul`` maps each image's histogram to landmarks that all sites share; ``zscore``
            and ``robust`` scale all images by one mean and standard deviation, or one median and
            interquartile range, of all sites' voxels.
        weighting: Whether each image or each site counts the same in the landmarks.
        embedding: What a network makes of an image, before its last layer: ``coral`` adds to the
            loss how far a site's mean and covariance are from those of all sites; ``fedharmony``
            how well a second head tells the site. ``combat`` takes out how a site's embeddings are
            shifted and stretched, before the last layer reads them.
        strength: Factor of what is added to the loss.
        is_by_class: Classification: ``coral`` matches within each class, so that sites of unlike
            prevalence are not pulled together where they rightly differ.
        n_min: ``combat``: a site with fewer training examples takes no part in the fit.
    """

    image: Literal["none", "nyul", "zscore", "robust"] = "none"
    weighting: Literal["image", "site"] = "image"
    embedding: Literal["none", "coral", "fedharmony", "combat"] = "none"
    strength: float = 1.0
    is_by_class: bool = True
    n_min: int = 10

    def __post_init__(self) -> None:
        for name, known in (("image", IMAGES), ("embedding", EMBEDDINGS)):
            value = getattr(self, name)
            is_known = value in ("none", *known)
            require(is_known, f"harmonize.{name}", value, ", ".join(("none", *known)))
        require(self.strength >= 0, "harmonize.strength", self.strength, "0 or more")
        require(self.n_min >= 2, "harmonize.n_min", self.n_min, "2 or more")

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
        return len(target.classes) if is_matched and target.kind == "classification" else 1

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
        if target.kind == "segmentation":
            fix = "set harmonize.embedding=none; harmonize.image=nyul works on the images"
            want = "one answer an image, from one embedding"
            raise HarmonizeError("H22", what, found="segmentation", want=want, fix=fix)
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

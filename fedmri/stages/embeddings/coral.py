"""CORAL: embeddings of a site keep near to the mean and covariance of all sites' embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claims
from fedmri.errors import HarmonizeError, require
from fedmri.stages.on_embeddings import SUMS_OF_EMBEDDINGS, OnEmbeddings, embeddings_at
from fedmri.stages.stage import AtSite, Made, Term

if TYPE_CHECKING:
    from fedmri.harmonize.embeddings.embedding_stage import Embeddings, PooledMoments
    from fedmri.plan import Plan
    from fedmri.round import Target


@dataclass(frozen=True)
class Coral(OnEmbeddings):
    """The loss grows with the distance of a site's mean and covariance from those of all sites.

    Attributes:
        strength: Factor of what is added to the loss.
        is_by_class: Classification: moments are matched within each class. So sites with different
            prevalence are not pulled together where they rightly differ.
    """

    strength: float = 1.0
    is_by_class: bool = True

    claims: ClassVar[Claims] = SUMS_OF_EMBEDDINGS
    source: ClassVar[str] = "Sun and Saenko 2016, arXiv:1607.01719"
    consent: ClassVar[str] = "sums over embeddings of training examples"

    def __post_init__(self) -> None:
        require(self.strength >= 0, "stages.coral.strength", self.strength, "0 or more")

    def refuse(self, plan: Plan) -> None:
        """Refuse noise (H23), and mixed examples, which have no class to match them in (H24)."""
        super().refuse(plan)
        augment = plan.data.augment
        if (augment.mixup or augment.cutmix) and self.n_groups(plan.target) > 1:
            fix = (
                "set data.augment.mixup=0 data.augment.cutmix=0, or stages.coral.is_by_class=false"
            )
            found, want = "examples that are mixed of two", "one class an example"
            raise HarmonizeError("H24", "stage coral", found=found, want=want, fix=fix)

    def n_groups(self, target: Target) -> int:
        """Return within how many groups embeddings are matched: classes, or one of all."""
        return target.n_groups if self.is_by_class else 1

    def fit(self, made: Made) -> PooledMoments:
        """Return the sums of moments."""
        from fedmri.harmonize.embeddings.embedding_stage import PooledMoments

        return PooledMoments(made.n_features, self.n_groups(made.plan.target))

    def held(self, at: AtSite) -> Embeddings:
        """Return the embeddings that are summed: none of a class of too few patients."""
        from fedmri.stages.floor import by_class

        own = super().held(at)
        if self.n_groups(at.plan.target) == 1:
            return own
        return by_class(own, at.patients, at.account.n_least)

    @contextmanager
    def training(self, at: AtSite) -> Iterator[Term | None]:
        """Add the distance of the moments to the loss."""
        from fedmri.harmonize.embeddings import invariance
        from fedmri.harmonize.embeddings.embedding_stage import pooled_consensus
        from fedmri.models.embedding import embedding_of

        if not at.patients:
            yield None
            return
        assert at.network is not None, "a round is trained with a network"
        n_groups = self.n_groups(at.plan.target)
        consensus = pooled_consensus(at.fitted, at.made.n_features, n_groups)
        mine = embeddings_at(at, "train")
        labels = mine.labels if n_groups > 1 else None
        own = invariance.consensus_of(invariance.moment_sums(mine.values, labels, n_groups))
        penalty = invariance.Coral(consensus, own, self.strength).penalty
        with embedding_of(at.network, at.layout.head_layer) as embedding:
            yield Term(lambda target: penalty(embedding.value, target))

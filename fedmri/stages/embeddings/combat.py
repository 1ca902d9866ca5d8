"""ComBat as a layer: a scanner's shift and stretch of embeddings are removed before the head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import HarmonizeError, require
from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_embeddings import SUMS_OF_EMBEDDINGS, OnEmbeddings, embeddings_at
from fedmri.stages.stage import AtSite, Made, Term

if TYPE_CHECKING:
    from fedmri.data.batches.site_data import Split
    from fedmri.harmonize.embeddings.embedding_combat import EmbeddingComBat


@dataclass(frozen=True)
class Combat(OnEmbeddings):
    """The last layer reads embeddings without each site's own shift and stretch.

    A site estimates them from its own embeddings, without labels. At a site that has no training
    examples, those of the images that are scored are used, and the scores are marked.

    Attributes:
        n_min: A site with fewer training examples takes no part in the fit.
    """

    n_min: int = 10

    is_alone: ClassVar[bool] = True
    is_scored_with: ClassVar[bool] = True
    is_own_site_read: ClassVar[bool] = True
    claims: ClassVar[Claims] = SUMS_OF_EMBEDDINGS
    asks: ClassVar[Claims] = frozenset({Claim.ONE_MODEL})
    source: ClassVar[str] = "Johnson et al. 2007, doi:10.1093/biostatistics/kxj037"
    consent: ClassVar[str] = "sums over embeddings of training examples, also before each scoring"

    def __post_init__(self) -> None:
        require(self.n_min >= 2, "stages.combat.n_min", self.n_min, "2 or more")

    def fit(self, made: Made) -> EmbeddingComBat:
        """Return ComBat's sums."""
        from fedmri.harmonize.embeddings.embedding_combat import EmbeddingComBat

        return EmbeddingComBat(made.n_features, self.n_min)

    def refuse_fitted(self, made: Made, fitted: Arrays) -> None:
        """Refuse what is not the shared half of ComBat (H21)."""
        from fedmri.harmonize.embeddings.embedding_combat import FITTED

        found, want = {n: v.shape for n, v in fitted.items()}, (made.n_features,)
        if found != dict.fromkeys(FITTED, want):
            fix, what = "run the same version of fedmri as the server", "parameters of ComBat"
            raise HarmonizeError("H21", what, found=f"{found}", want=f"{FITTED} {want}", fix=fix)

    @contextmanager
    def training(self, at: AtSite) -> Iterator[Term | None]:
        """Put the site's own affine before the head while a round is trained."""
        if not at.patients:
            yield None
            return
        with self._layer(at, "train"):
            yield None

    @contextmanager
    def scoring(self, at: AtSite, split: Split) -> Iterator[bool]:
        """Put the site's own affine before the head while a split is scored."""
        has_own = bool(at.patients)
        with self._layer(at, "train" if has_own else split):
            yield not has_own

    def _layer(self, at: AtSite, split: Split) -> AbstractContextManager[None]:
        from fedmri.harmonize.embeddings.embedding_combat import layer_before, site_affine

        assert at.network is not None, "embeddings are changed where a network is loaded"
        affine = site_affine(self.fit(at.made), at.fitted, embeddings_at(at, split))
        return layer_before(at.network, at.layout.head_layer, affine)

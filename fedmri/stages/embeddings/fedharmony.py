"""FedHarmony: a second head learns to name the site, and the network learns to confuse it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import require
from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_embeddings import OnEmbeddings
from fedmri.stages.stage import AtSite, Made, Term

if TYPE_CHECKING:
    from fedmri.harmonize.embeddings import invariance
    from fedmri.harmonize.embeddings.embedding_stage import MomentsBySite


@dataclass(frozen=True)
class FedHarmony(OnEmbeddings):
    """The loss grows with how well a second head recognizes the site by an embedding.

    Each site's moments are known to the server, so no secure sum goes with it.

    Attributes:
        strength: Factor of what is added to the loss.
    """

    strength: float = 1.0

    claims: ClassVar[Claims] = frozenset({Claim.UPDATE_UNTOUCHED})
    source: ClassVar[str] = "Dinsdale et al. 2022, arXiv:2205.15970"
    consent: ClassVar[str] = "mean and variance of this site's own embeddings, which no sum hides"

    def __post_init__(self) -> None:
        require(self.strength >= 0, "stages.fedharmony.strength", self.strength, "0 or more")

    def fit(self, made: Made) -> MomentsBySite:
        """Return the sums by site."""
        from fedmri.harmonize.embeddings.embedding_stage import MomentsBySite

        return MomentsBySite(made.n_features)

    def most_numbers(self, made: Made) -> int:
        """Return none: a few numbers a site and feature are less than the network has."""
        return 0

    def first(self, sites: Sequence[str]) -> Arrays:
        """Return what each site finds its own row by."""
        from fedmri.harmonize.embeddings.domain_head import site_numbers

        return site_numbers(sites)

    @contextmanager
    def training(self, at: AtSite) -> Iterator[Term | None]:
        """Add the confusion of the site's own head to the loss; the head stays at the site."""
        from fedmri.harmonize.embeddings.domain_head import SITES, kept_of
        from fedmri.models.embedding import embedding_of

        if not at.patients:
            yield None
            return
        assert at.network is not None, "a round is trained with a network"
        sites, harmony = at.fitted[SITES].clone(), self._harmony(at)
        with embedding_of(at.network, at.layout.head_layer) as embedding:
            if harmony is None:
                yield Term(lambda _: embedding.value.sum() * 0)
                return
            yield Term(
                lambda target: harmony.penalty(embedding.value, target),
                lambda: kept_of(harmony.domain_head, sites),
            )

    def _harmony(self, at: AtSite) -> invariance.FedHarmony | None:
        """Return the site's head with its optimizer; None where no row is this site's."""
        import torch

        from fedmri.harmonize.embeddings import invariance
        from fedmri.harmonize.embeddings.domain_head import RATE, SITES, domain_head, place_of
        from fedmri.harmonize.embeddings.embedding_stage import site_moments
        from fedmri.training.computing.device import pick_device
        from fedmri.training.seeds import derive_seed

        n_features, seed = at.made.n_features, at.plan.seed
        moments, sites = site_moments(at.fitted, n_features), at.fitted[SITES].clone()
        place = place_of(at.site, sites)
        if place < 0:
            return None
        head = domain_head(n_features, sites, at.kept, derive_seed(seed, at.site, "domain"))
        head.to(pick_device(at.plan.train.device))
        own = derive_seed(seed, at.site, at.round_index, "domain")
        draws = torch.Generator().manual_seed(own)
        optimizer = torch.optim.Adam(head.parameters(), lr=RATE)
        return invariance.FedHarmony(head, optimizer, place, moments, draws, self.strength)

"""What a plan does to embeddings at one site: sums over them, and a term of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from fedmri.clients.egress.floor import bounded, by_class
from fedmri.data.batches.site_data import SiteData, Split
from fedmri.errors import RoundError
from fedmri.harmonize.embeddings.domain_head import RATE, SITES, domain_head, kept_of, place_of
from fedmri.harmonize.embeddings.embedding_choice import EmbeddingStage, embedding_stage
from fedmri.harmonize.embeddings.embedding_combat import EmbeddingComBat, layer_before, site_affine
from fedmri.harmonize.embeddings.embedding_stage import (
    Embeddings,
    PooledMoments,
    pooled_consensus,
    site_moments,
)
from fedmri.harmonize.embeddings.invariance import (
    Coral,
    FedHarmony,
    consensus_of,
    embedding_of,
    moment_sums,
)
from fedmri.harmonize.sums import Arrays
from fedmri.models.weights import weights
from fedmri.plan import Plan
from fedmri.round import Layout, LossTerm, Weights
from fedmri.training.device import memory_explained, pick_device, reproducible
from fedmri.training.seeds import derive_seed
from fedmri.wire import EMBEDDING, SumsOrder


@dataclass(frozen=True)
class Invariance:
    """A site's half of what is done to embeddings, by the network as it is loaded.

    Attributes:
        site: Name of the site.
        plan: What is learned.
        network: The network, with the weights that were received.
        entries: Which of its entries are what.
    """

    site: str
    plan: Plan
    network: nn.Module
    entries: Layout

    @cached_property
    def stage(self) -> EmbeddingStage | None:
        """What is fitted over sites; None where the plan leaves embeddings alone."""
        model = weights(self.network)
        return embedding_stage(self.plan.harmonize, model, self.entries, self.plan.target)

    def sums(self, order: SumsOrder, data: SiteData | None, n_least: int = 0) -> Arrays:
        """Return this site's part of the sums over its training examples; zeros without data.

        Where a hospital has a floor of ``n_least`` patients, a class of fewer is not in sums by
        class, and no embedding counts many times the usual.

        Raises:
            RoundError: The plan has no such step (R11).
        """
        stage = self.stage
        if stage is None or order.step not in range(stage.n_steps):
            fix = "run the same version of fedmri as the server"
            found, want = f"step {order.step}", "a step of the plan's harmonization"
            raise RoundError("R11", "order for sums", found=found, want=want, fix=fix)
        shared = {name: value.numpy() for name, value in order.shared.items()}
        if data is None:
            return stage.site_sums(order.step, (), shared)
        own = self.of(data, "train")
        patients = [(e.site, e.subject) for e in data.examples("train")]
        if n_least:
            own = bounded(own, patients)
        if isinstance(stage, PooledMoments) and stage.n_groups > 1:
            own = by_class(own, patients, n_least)
        return stage.site_sums(order.step, own, shared)

    def of(self, data: SiteData, split: Split) -> Embeddings:
        """Return the embeddings of a split's examples, in evaluation mode and without gradients."""
        place = pick_device(self.plan.train.device)
        batch_size, n_features = self.plan.train.batch_size, self._n_features
        values = [torch.zeros(0, n_features, dtype=torch.float64)]
        labels = [torch.zeros(0, dtype=torch.float64)]
        self.network.to(place).eval()
        with (
            reproducible(self.plan.train.n_threads),
            memory_explained(place),
            torch.no_grad(),
            embedding_of(self.network, self._head) as embedding,
        ):
            for batch in data.eval_batches(split, batch_size=batch_size):
                self.network(batch.image.to(place))
                values.append(embedding.value.cpu().double())
                labels.append(batch.target.double())
        return Embeddings(self.site, torch.cat(values), torch.cat(labels))

    @contextmanager
    def training(
        self, data: SiteData, round_index: int, extra: Mapping[str, Weights], kept: Weights
    ) -> Iterator[Term | None]:
        """Give what is added to the loss of a round; None where nothing is.

        Args:
            data: The site's examples.
            round_index: Round, from 1.
            extra: What came with the order.
            kept: What ``Term.kept`` gave after the round before.
        """
        if self.stage is None or not data.examples("train"):
            yield None
            return
        fitted = _fitted(extra)
        if isinstance(self.stage, EmbeddingComBat):
            affine = site_affine(self.stage, fitted, self.of(data, "train"))
            with layer_before(self.network, self._head, affine):
                yield None
            return
        with_term = self._coral if self.plan.harmonize.embedding == "coral" else self._fedharmony
        penalty, left = with_term(data, round_index, fitted, kept)
        with embedding_of(self.network, self._head) as embedding:
            yield Term(lambda target: penalty(embedding.value, target), left)

    @contextmanager
    def scoring(self, data: SiteData, split: Split, extra: Mapping[str, Weights]) -> Iterator[None]:
        """Harmonize embeddings while a split is scored, by this site's images without answers.

        They are those of the training examples; of a site that has none, those that are scored.
        """
        stage = self.stage
        if not isinstance(stage, EmbeddingComBat):
            yield
            return
        own = self.of(data, "train" if data.examples("train") else split)
        with layer_before(self.network, self._head, site_affine(stage, _fitted(extra), own)):
            yield

    def is_fitted_to_scored(self, data: SiteData) -> bool:
        """Tell whether ``scoring`` harmonizes by the very images that are scored."""
        return isinstance(self.stage, EmbeddingComBat) and not data.examples("train")

    def _coral(self, data: SiteData, _: int, fitted: Weights, __: Weights) -> _Made:
        config = self.plan.harmonize
        n_groups = config.n_groups(self.plan.target)
        consensus = pooled_consensus(fitted, self._n_features, n_groups)
        mine = self.of(data, "train")
        labels = mine.labels if n_groups > 1 else None
        own = consensus_of(moment_sums(mine.values, labels, n_groups))
        return Coral(consensus, own, config.strength).penalty, dict

    def _fedharmony(
        self, data: SiteData, round_index: int, fitted: Weights, kept: Weights
    ) -> _Made:
        del data
        moments, sites = site_moments(fitted, self._n_features), fitted[SITES].clone()
        place, seed = place_of(self.site, sites), self.plan.seed
        if place < 0:
            return (lambda embedding, _: embedding.sum() * 0), dict
        head = domain_head(self._n_features, sites, kept, derive_seed(seed, self.site, "domain"))
        head.to(pick_device(self.plan.train.device))
        draws = torch.Generator().manual_seed(derive_seed(seed, self.site, round_index, "domain"))
        optimizer = torch.optim.Adam(head.parameters(), lr=RATE)
        strength = self.plan.harmonize.strength
        harmony = FedHarmony(head, optimizer, place, moments, draws, strength)
        return harmony.penalty, lambda: kept_of(head, sites)

    @property
    def _n_features(self) -> int:
        assert self.stage is not None, "asked where embeddings are left alone"
        return self.stage.n_features

    @property
    def _head(self) -> str:
        return self.entries.head_layer


def _fitted(extra: Mapping[str, Weights]) -> Weights:
    if EMBEDDING not in extra:
        fix = "run the same version of fedmri as the server"
        found, want = "none", "what the plan's harmonization fitted to embeddings"
        raise RoundError("R11", "order of a round", found=found, want=want, fix=fix)
    return extra[EMBEDDING]


_Made = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[], Weights]]
"""From embeddings and targets to a penalty, and what the site keeps after the round."""


@dataclass(frozen=True)
class Term:
    """What is added to the loss of a round.

    Attributes:
        loss: From a batch's targets to the term.
        kept: What the site keeps of it until the next round.
    """

    loss: LossTerm
    kept: Callable[[], Weights]

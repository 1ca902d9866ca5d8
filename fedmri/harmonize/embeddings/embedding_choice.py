"""Which method a plan applies to embeddings."""

from __future__ import annotations

from fedmri.harmonize.embeddings.embedding_combat import EmbeddingComBat
from fedmri.harmonize.embeddings.embedding_stage import MomentsBySite, PooledMoments
from fedmri.harmonize.settings import HarmonizeConfig
from fedmri.round import Layout, Target, Weights

EmbeddingStage = PooledMoments | MomentsBySite | EmbeddingComBat


def embedding_stage(
    config: HarmonizeConfig, model: Weights, entries: Layout, target: Target
) -> EmbeddingStage | None:
    """Return what is fitted to the embeddings of a model; None for nothing.

    Args:
        config: The plan's harmonization.
        model: All entries of the network.
        entries: Which of them are the head.
        target: What it predicts.
    """
    if config.embedding == "none":
        return None
    [n_features] = {model[name].shape[1] for name in entries.head if model[name].ndim > 1}
    if config.embedding == "coral":
        return PooledMoments(n_features, config.n_groups(target))
    if config.embedding == "combat":
        return EmbeddingComBat(n_features, config.n_min)
    return MomentsBySite(n_features)

"""What stages of embeddings share: they are fitted before each round, under the model as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fedmri.claims import Claim, Claims
from fedmri.errors import HarmonizeError
from fedmri.harmonize.sums import Arrays
from fedmri.stages.stage import AtSite, Place, Stage, When

if TYPE_CHECKING:
    from fedmri.data.batches.site_data import Split
    from fedmri.harmonize.embeddings.embedding_stage import Embeddings
    from fedmri.plan import Plan

SUMS_OF_EMBEDDINGS: Claims = frozenset({Claim.SUM_IS_ENOUGH, Claim.UPDATE_UNTOUCHED})
"""Claims of a stage that is fitted by sums over embeddings, and leaves updates alone."""


class OnEmbeddings(Stage):
    """A stage of embeddings; several that add to the loss go together."""

    place: ClassVar[Place] = Place.EMBEDDINGS
    when: ClassVar[When] = When.BEFORE_EACH_ROUND
    is_alone: ClassVar[bool] = False

    def refuse(self, plan: Plan) -> None:
        """Refuse a plan without an embedding an image, or whose noise is not on the sums.

        Raises:
            HarmonizeError: The network answers each voxel (H22), or the plan has differential
                privacy of patients (H23).
        """
        what = f"stage {_name(self)}"
        if plan.target.answer == "voxel":
            fix = "leave the stage out; harmonize=nyul works on the images"
            want = "one answer an image, from one embedding"
            raise HarmonizeError("H22", what, found=plan.target.title, want=want, fix=fix)
        if plan.privacy.is_on:
            fix = "leave the stage out (harmonize=none), or train without differential privacy"
            found = "differential privacy, whose noise is not on sums over embeddings"
            want = "a plan without it"
            raise HarmonizeError("H23", what, found=found, want=want, fix=fix)

    def own_sums(self, at: AtSite, step: int, shared: Arrays) -> Arrays:
        """Return the sums over embeddings of training examples.

        Where a hospital has a floor of patients, no embedding counts many times the usual.
        """
        sums: Any = self.fit(at.made)
        return dict(sums.site_sums(step, self.held(at), shared))

    def held(self, at: AtSite) -> Embeddings:
        """Return the embeddings that are summed."""
        from fedmri.stages.floor import bounded

        own = embeddings_at(at, "train")
        return bounded(own, at.patients) if at.account.n_least else own


def embeddings_at(at: AtSite, split: Split, layer: str = "", n_features: int = 0) -> Embeddings:
    """Return the embeddings of a split's examples, in evaluation mode and without gradients.

    Args:
        at: The site.
        split: Whose examples.
        layer: Layer that they go into, by its name; empty is the last one.
        n_features: Numbers of an embedding, where a layer is named.
    """
    import torch

    from fedmri.harmonize.embeddings.embedding_stage import Embeddings
    from fedmri.models.embedding import embedding_of
    from fedmri.training.computing.device import memory_explained, pick_device, reproducible

    train, network = at.plan.train, at.network
    assert network is not None, "embeddings are asked for where a network is loaded"
    place = pick_device(train.device)
    n_features = n_features or at.made.n_features
    values = [torch.zeros(0, n_features, dtype=torch.float64)]
    labels = [torch.zeros(0, dtype=torch.float64)]
    network.to(place).eval()
    with (
        reproducible(train.n_threads),
        memory_explained(place),
        torch.no_grad(),
        embedding_of(network, layer or at.layout.head_layer) as embedding,
    ):
        for batch in at.data.eval_batches(split, batch_size=train.batch_size):
            network(*batch.inputs_on(place))
            values.append(embedding.value.cpu().double())
            labels.append(batch.target.double())
    return Embeddings(at.site, torch.cat(values), torch.cat(labels))


def _name(stage: Stage) -> str:
    from fedmri.stages.registry import STAGES

    return STAGES.name_of(stage)

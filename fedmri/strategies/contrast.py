"""What a contrast of embeddings adds to the loss: of the network, and of two that stand still."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from fedmri.models.embedding import embedding_of
from fedmri.models.weights import load_weights
from fedmri.round import Layout, LossTerm, Weights


@dataclass(frozen=True)
class Contrast:
    """Models whose embeddings of the same images are sought and shunned.

    Attributes:
        near: Model that embeddings are pulled to; not to be changed.
        far: Model that they are pushed from; not to be changed.
        strength: Factor of what is added to the loss.
        temperature: Above 0; a small one counts small differences much.
    """

    near: Weights
    far: Weights
    strength: float
    temperature: float

    def __call__(self, network: nn.Module, layout: Layout) -> AbstractContextManager[LossTerm]:
        """Give what is added to the loss while batches go through a network."""
        return contrasting(network, layout, self)


@contextmanager
def contrasting(network: nn.Module, layout: Layout, contrast: Contrast) -> Iterator[LossTerm]:
    """Give what is added to the loss while batches go through a network.

    Args:
        network: Network that is trained.
        layout: Which of its entries are the last layer's; what goes into it is the embedding.
        contrast: Which models' embeddings of the same images are sought and shunned.
    """
    head = layout.head_layer
    near, far = (_standing(network, model) for model in (contrast.near, contrast.far))
    inputs: list[Tensor] = []
    hook = network.register_forward_pre_hook(lambda _, args: inputs.__setitem__(slice(None), args))

    def term(_: Tensor) -> Tensor:
        alike, unlike = (
            cosine_similarity(own.value.float(), _embedding(model, head, inputs), dim=1)
            for model in (near, far)
        )
        return contrast.strength * contrastive_loss(alike, unlike, contrast.temperature)

    try:
        with embedding_of(network, head) as own:
            yield term
    finally:
        hook.remove()


def contrastive_loss(near: Tensor, far: Tensor, temperature: float) -> Tensor:
    """Return the mean of ``-log(e^(near/t) / (e^(near/t) + e^(far/t)))`` over a batch.

    Args:
        near: Likeness to the embeddings that are sought, -1 to 1, shape ``(B,)``.
        far: Likeness to those that are shunned, shape ``(B,)``.
        temperature: Above 0; a small one counts small differences much.
    """
    logits = torch.stack([near, far], dim=1) / temperature
    return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def _standing(network: nn.Module, model: Weights) -> nn.Module:
    """Return a copy that holds a model and does not learn."""
    other = copy.deepcopy(network)
    load_weights(other, model)
    return other.eval().requires_grad_(requires_grad=False)


def _embedding(model: nn.Module, head: str, inputs: Sequence[Tensor]) -> Tensor:
    model.to(inputs[0].device)
    with torch.no_grad(), embedding_of(model, head) as held:
        model(*inputs)
    return held.value.float()

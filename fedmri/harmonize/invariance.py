"""Learned invariance: embeddings that do not tell their site, by losses that a trainer adds.

A site holds one domain alone, so what the others look like comes to it as moments of embeddings.
Where classes are unevenly spread over sites, equal marginal moments hurt (Zhao et al. 2019,
arXiv:1901.09453): then moments are matched within each class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, log_softmax, one_hot

N_EXAMPLES, FIRST, SECOND = "n_examples", "first", "second"
LEAST_STD = 1e-6
"""Below it a feature of an embedding is drawn as the constant that it is."""


@dataclass(frozen=True)
class Consensus:
    """Moments of the embeddings of all sites, by class; one class where labels do not count.

    Attributes:
        n_examples: Examples behind each class, shape ``(K,)``; a class of none is not matched.
        mean: Shape ``(K, d)``.
        covariance: Divided by the number of examples, shape ``(K, d, d)``.
    """

    n_examples: Tensor
    mean: Tensor
    covariance: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation of each feature, shape ``(K, d)``."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).sqrt()


def moment_sums(
    embeddings: Tensor, labels: Tensor | None = None, n_classes: int = 1
) -> dict[str, Tensor]:
    """Return what a site adds to the consensus: sums over its examples, in float64.

    Args:
        embeddings: Shape ``(B, d)``.
        labels: Classes from 0, shape ``(B,)``; None counts all examples as of one class.
        n_classes: Classes.
    """
    values = embeddings.detach().double()
    member = _members(values, labels, n_classes).double()
    return {
        N_EXAMPLES: member.sum(dim=0),
        FIRST: member.T @ values,
        SECOND: torch.einsum("bk,bi,bj->kij", member, values, values),
    }


def consensus_of(total: Mapping[str, Tensor]) -> Consensus:
    """Return the moments behind sums that were added over sites.

    It is that of all examples in one place, so what lies between sites is part of the covariance.
    """
    n = total[N_EXAMPLES]
    divisor = n.clamp(min=1)[:, None]
    mean = total[FIRST] / divisor
    outer = mean[:, :, None] * mean[:, None, :]
    covariance = total[SECOND] / divisor[:, :, None] - outer
    diagonal = covariance.diagonal(dim1=-2, dim2=-1)
    diagonal.clamp_(min=0)  # rounding leaves a constant feature a little below
    return Consensus(n, mean, covariance)


def coral_penalty(embeddings: Tensor, consensus: Consensus, labels: Tensor | None = None) -> Tensor:
    """Return the distance of a batch's moments to those of all sites.

    It is ``‖μ_i - μ̄‖² + ‖Σ_i - Σ̄‖_F²``, within each class by its share of the batch. A class with
    one example has no covariance: only its mean counts.

    Args:
        embeddings: Shape ``(B, d)``; B may be 0, which gives 0.
        consensus: With one class, or as many as ``labels`` have.
        labels: Classes from 0, shape ``(B,)``.

    Returns:
        A scalar with a gradient to ``embeddings``.

    Source:
        Sun and Saenko 2016, Deep CORAL, arXiv:1607.01719; with means as well.
    """
    n_classes = len(consensus.n_examples)
    members = _members(embeddings, labels, n_classes)
    loss = embeddings.sum() * 0
    for k in range(n_classes):
        own = embeddings[members[:, k]]
        if not len(own) or consensus.n_examples[k] < 1:
            continue
        mean = own.mean(dim=0)
        apart = (mean - consensus.mean[k].to(own)).square().sum()
        if len(own) > 1:
            covariance = (own - mean).T @ (own - mean) / len(own)
            apart = apart + (covariance - consensus.covariance[k].to(own)).square().sum()
        loss = loss + apart * (len(own) / len(embeddings))
    return loss


@dataclass(frozen=True)
class Coral:
    """Moment matching as what a trainer calls.

    Attributes:
        consensus: Moments of all sites; of several classes, they are matched within each.
        strength: Factor of the penalty.
    """

    consensus: Consensus
    strength: float = 1.0

    def penalty(self, embedding: Tensor, target: Tensor) -> Tensor:
        """Return what is added to the loss of a batch; ``target`` holds its classes."""
        labels = target if len(self.consensus.n_examples) > 1 else None
        return self.strength * coral_penalty(embedding, self.consensus, labels)


def confusion_loss(logits: Tensor) -> Tensor:
    """Return ``-(1/K) Σ_k log p_k``, the mean of a batch; at least ``log K``, when all are equal.

    Args:
        logits: Scores of the K sites, shape ``(B, K)``.

    Source:
        Tzeng et al. 2015, Simultaneous deep transfer across domains and tasks, arXiv:1510.02192.
    """
    return -log_softmax(logits, dim=1).mean()


def domain_loss(
    domain_head: nn.Module, own: Tensor, site: int, others: Consensus, generator: torch.Generator
) -> Tensor:
    """Return the cross-entropy of telling sites apart, by own examples and drawn ones.

    As many embeddings as the site has in the batch are drawn for each other site, from a normal
    with that site's mean and standard deviation. The encoder gets no gradient.

    Args:
        domain_head: From ``(B, d)`` to scores ``(B, K)``.
        own: This site's embeddings, shape ``(B, d)``.
        site: This site's place among the K.
        others: Moments of each site in the place of a class; this site's own are not read.
        generator: Of the draws, on the CPU.
    """
    features, labels = [own.detach()], [torch.full((len(own),), site, device=own.device)]
    for k in range(len(others.mean)):
        if k == site:
            continue
        noise = torch.randn(own.shape, generator=generator).to(own)
        std = others.std[k].to(own)
        spread = torch.where(std > LEAST_STD, std, 0.0)
        features.append(others.mean[k].to(own) + spread * noise)
        labels.append(torch.full((len(own),), k, device=own.device))
    return cross_entropy(domain_head(torch.cat(features)), torch.cat(labels))


@dataclass(frozen=True)
class FedHarmony:
    """Unlearning of the site, for a trainer that alternates the steps of a batch.

    First the task's loss, then a step of ``domain_head`` on ``domain_loss``, then a step of the
    encoder on ``penalty``.

    Attributes:
        domain_head: From embeddings ``(B, d)`` to scores of the sites ``(B, K)``.
        site: This site's place among the K.
        others: Moments of each site's embeddings, in the place of a class.
        generator: Of the draws for other sites, on the CPU.
        strength: Factor of the penalty.

    Source:
        Dinsdale et al. 2022, FedHarmony, arXiv:2205.15970.
    """

    domain_head: nn.Module
    site: int
    others: Consensus
    generator: torch.Generator
    strength: float = 1.0

    def domain_loss(self, embedding: Tensor) -> Tensor:
        """Return the loss of the domain head; the encoder gets no gradient."""
        return domain_loss(self.domain_head, embedding, self.site, self.others, self.generator)

    def penalty(self, embedding: Tensor, target: Tensor) -> Tensor:
        """Return the confusion of the domain head, which itself gets no gradient."""
        still = {name: value.detach() for name, value in self.domain_head.named_parameters()}
        logits: Tensor = functional_call(self.domain_head, still, (embedding,))
        return self.strength * confusion_loss(logits)


class Embedding:
    """Holds the embedding of the last batch that went through a network."""

    def __init__(self) -> None:
        self._value: Tensor | None = None

    @property
    def value(self) -> Tensor:
        """Shape ``(B, d)``, with its gradient; asking before a batch went through is a bug."""
        assert self._value is not None, "no batch went through the network"
        return self._value

    def hold(self, value: Tensor, *, is_channel_last: bool) -> None:
        """Keep what reaches the head, averaged over space or tokens."""
        if value.ndim > 2:
            places = range(1, value.ndim - 1) if is_channel_last else range(2, value.ndim)
            value = value.mean(dim=tuple(places))
        self._value = value


@contextmanager
def embedding_of(network: nn.Module, head: str) -> Iterator[Embedding]:
    """Hold what reaches a network's head while batches go through it.

    Args:
        network: Network whose embeddings are wanted.
        head: Name of the layer that makes the outputs: linear, or a convolution.
    """
    held, layer = Embedding(), network.get_submodule(head)
    is_channel_last = isinstance(layer, nn.Linear)

    def hold(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        held.hold(args[0], is_channel_last=is_channel_last)

    hook = layer.register_forward_pre_hook(hold)
    try:
        yield held
    finally:
        hook.remove()


def _members(embeddings: Tensor, labels: Tensor | None, n_classes: int) -> Tensor:
    """Return which example is of which class, shape ``(B, K)``."""
    if labels is None:
        shape = (len(embeddings), n_classes)
        return torch.ones(shape, dtype=torch.bool, device=embeddings.device)
    return one_hot(labels.long(), n_classes).bool()

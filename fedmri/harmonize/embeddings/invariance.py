"""Learned invariance: embeddings that do not tell their site, by losses that a trainer adds.

A site holds one domain alone, so what the others look like comes to it as moments of embeddings.
Where classes are unevenly spread over sites, equal marginal moments hurt (Zhao et al. 2019,
arXiv:1901.09453): then moments are matched within each class.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class Coral:
    """Moment matching: what is added to the loss of each batch of a round at a site.

    It is ``‖μ_i - μ̄‖² / (tr Σ_i + tr Σ̄) + ‖Σ_i - Σ̄‖_F² / (‖Σ_i‖_F² + ‖Σ̄‖_F²)``, within each class
    by its share of the batch. The spreads are units, without a gradient: the width and scale of a
    layer do not matter, nor that embeddings of a young network grow far beyond the consensus.

    A few examples say little of a covariance, and their mean is off by chance: the distance of a
    batch's own moments would shrink all embeddings. So the distance is that of the site's moments,
    as they were before the round and as its batches move them since, and the gradient is the
    batch's: its mean over the batches of an epoch is that of all the site's examples.

    Args:
        consensus: Moments of all sites; of several classes, they are matched within each.
        own: The site's own, of the same classes.
        strength: Factor.

    Source:
        Sun and Saenko 2016, Deep CORAL, arXiv:1607.01719; with means as well.
    """

    def __init__(self, consensus: Consensus, own: Consensus, strength: float = 1.0) -> None:
        self._all, self._own = consensus, own
        self._strength = strength
        self._mean, self._covariance = own.mean.clone(), own.covariance.clone()

    def penalty(self, embedding: Tensor, target: Tensor) -> Tensor:
        """Return a scalar with a gradient to the embeddings, and take in the batch.

        Args:
            embedding: Shape ``(B, d)``; B may be 0, which gives 0.
            target: Classes from 0, shape ``(B,)``; of one class, it is not read.
        """
        n_classes = len(self._all.n_examples)
        labels = target if n_classes > 1 else None
        members = _members(embedding, labels, n_classes)
        values = embedding.double()
        loss = values.sum() * 0
        for k in range(n_classes):
            batch = values[members[:, k]]
            if len(batch) and self._all.n_examples[k] >= 1:
                loss = loss + self._apart(k, batch) * (len(batch) / len(values))
        return self._strength * loss

    def _apart(self, k: int, batch: Tensor) -> Tensor:
        before = self._mean[k].to(batch, copy=True)  # taking in the batch changes it
        spread = self._covariance[k].to(batch, copy=True)
        mean, centred = batch.mean(dim=0), batch - before
        products = centred.T @ centred / len(batch)
        self._take_in(k, mean.detach() - before, products.detach(), len(batch))
        # the value of the site's moments, with the gradient of the batch's
        own = before + (mean - mean.detach())
        around = spread + (products - products.detach())
        among = self._all.covariance[k].to(batch)
        units = spread.trace() + among.trace(), spread.square().sum() + among.square().sum()
        first = (own - self._all.mean[k].to(batch)).square().sum()
        second = (around - among).square().sum()
        return first / units[0].clamp(min=LEAST_STD**2) + second / units[1].clamp(min=LEAST_STD**4)

    def _take_in(self, k: int, step: Tensor, products: Tensor, n: int) -> None:
        share = n / max(n, float(self._own.n_examples[k]))
        step, products = step.to(self._mean), products.to(self._mean)
        self._mean[k] += share * step
        mixed = (1 - share) * self._covariance[k] + share * products
        self._covariance[k] = mixed - share**2 * step[:, None] * step[None, :]


def confusion_loss(logits: Tensor) -> Tensor:
    """Return ``-(1/K) Σ_k log p_k``, the mean of a batch; at least ``log K``, when all are equal.

    Args:
        logits: Scores of the K sites, shape ``(B, K)``.

    Source:
        Tzeng et al. 2015, Simultaneous deep transfer across domains and tasks, arXiv:1510.02192.
    """
    return -log_softmax(logits, dim=1).mean()


@dataclass(frozen=True)
class SiteMoments:
    """Mean and spread of each site's embeddings.

    Attributes:
        n_examples: Shape ``(K,)``; a site of none is not drawn for.
        mean: Shape ``(K, d)``.
        std: Shape ``(K, d)``.
    """

    n_examples: Tensor
    mean: Tensor
    std: Tensor


def domain_loss(
    domain_head: nn.Module, own: Tensor, site: int, others: SiteMoments, generator: torch.Generator
) -> Tensor:
    """Return the cross-entropy of telling sites apart, by own examples and drawn ones.

    As many embeddings as the site has in the batch are drawn for each other site, from a normal
    with that site's mean and standard deviation. The encoder gets no gradient.

    Args:
        domain_head: From ``(B, d)`` to scores ``(B, K)``.
        own: This site's embeddings, shape ``(B, d)``.
        site: This site's place among the K.
        others: Moments of each site; this site's own are not read.
        generator: Of the draws, on the CPU.
    """
    features, labels = [own.detach()], [torch.full((len(own),), site, device=own.device)]
    for k in range(len(others.mean)):
        if k == site or others.n_examples[k] < 1:
            continue
        noise = torch.randn(own.shape, generator=generator).to(own)
        std = others.std[k].to(own)
        spread = torch.where(std > LEAST_STD, std, 0.0)
        features.append(others.mean[k].to(own) + spread * noise)
        labels.append(torch.full((len(own),), k, device=own.device))
    return cross_entropy(domain_head(torch.cat(features)), torch.cat(labels))


@dataclass(frozen=True)
class FedHarmony:
    """Unlearning of the site: in each batch a step of the domain head, then its confusion.

    The confusion is added to the task's loss, so that the encoder takes one step along both.

    Attributes:
        domain_head: From embeddings ``(B, d)`` to scores of the sites ``(B, K)``.
        optimizer: Of the domain head.
        site: This site's place among the K.
        others: Moments of each site's embeddings.
        generator: Of the draws for other sites, on the CPU.
        strength: Factor of the confusion.

    Source:
        Dinsdale et al. 2022, FedHarmony, arXiv:2205.15970.
    """

    domain_head: nn.Module
    optimizer: torch.optim.Optimizer
    site: int
    others: SiteMoments
    generator: torch.Generator
    strength: float = 1.0

    def penalty(self, embedding: Tensor, target: Tensor) -> Tensor:
        """Return the confusion of the domain head after its step; the head gets no gradient."""
        own = embedding.float()
        self.step(own)
        still = {name: value.detach() for name, value in self.domain_head.named_parameters()}
        logits: Tensor = functional_call(self.domain_head, still, (own,))
        return self.strength * confusion_loss(logits)

    def step(self, own: Tensor) -> None:
        """Move the domain head once, or leave it where its loss is not finite."""
        loss = domain_loss(self.domain_head, own, self.site, self.others, self.generator)
        if not torch.isfinite(loss):
            return
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()


def _members(embeddings: Tensor, labels: Tensor | None, n_classes: int) -> Tensor:
    """Return which example is of which class, shape ``(B, K)``."""
    if labels is None:
        shape = (len(embeddings), n_classes)
        return torch.ones(shape, dtype=torch.bool, device=embeddings.device)
    return one_hot(labels.long(), n_classes).bool()

"""What is fitted to embeddings under a shared model, by sums over sites, for the round after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedmri.errors import HarmonizeError
from fedmri.harmonize.embeddings.domain_head import SITES, place_of
from fedmri.harmonize.embeddings.invariance import (
    FIRST,
    N_EXAMPLES,
    SECOND,
    Consensus,
    SiteMoments,
    consensus_of,
    moment_sums,
)
from fedmri.harmonize.sums import Arrays
from fedmri.round import Weights

MEAN, COVARIANCE, VARIANCE = "mean", "covariance", "variance"


@dataclass(frozen=True)
class Embeddings:
    """What a network makes of a site's training examples, before its head.

    Attributes:
        site: Name of the site.
        values: Shape ``(n, d)``, float64.
        labels: What they are answers to: classes from 0, or values; shape ``(n,)``.
    """

    site: str
    values: Tensor
    labels: Tensor


Held = Embeddings | tuple[()]
"""Embeddings, or nothing, of which the sums are zeros: their names and shapes are asked for so."""


@dataclass(frozen=True)
class PooledMoments:
    """Mean and covariance of all sites' embeddings, by class: a ``SumStage`` of one step."""

    n_features: int
    n_groups: int = 1
    n_steps: int = 1

    def site_sums(self, step: int, data: Held, shared: Arrays) -> Arrays:
        """Return counts ``(K,)``, sums ``(K, d)`` and products ``(K, d, d)``, by class."""
        held = _held(data, self.n_features)
        labels = held.labels if self.n_groups > 1 else None
        return _arrays(moment_sums(held.values, labels, self.n_groups))

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return the consensus."""
        consensus = consensus_of(_tensors(total))
        return _arrays(
            {
                N_EXAMPLES: consensus.n_examples,
                MEAN: consensus.mean,
                COVARIANCE: consensus.covariance,
            }
        )


@dataclass(frozen=True)
class MomentsBySite:
    """Mean and variance of each site's embeddings: a ``SumStage`` of one step.

    Every site fills a row of its own, so the total tells the moments of each: secure aggregation
    cannot hide them. ``shared`` names the rows from the start.
    """

    n_features: int
    n_steps: int = 1

    def site_sums(self, step: int, data: Held, shared: Arrays) -> Arrays:
        """Return counts ``(K,)``, sums and squares ``(K, d)``: zero in all rows but the site's."""
        held = _held(data, self.n_features)
        n_sites = len(shared[SITES])
        place = place_of(held.site, torch.from_numpy(np.array(shared[SITES])))
        rows = torch.full((len(held.values),), place)
        member = torch.zeros(n_sites, len(rows), dtype=torch.float64)
        if place >= 0:
            member[rows, torch.arange(len(rows))] = 1
        return _arrays(
            {
                N_EXAMPLES: member.sum(dim=1),
                FIRST: member @ held.values,
                SECOND: member @ held.values.square(),
            }
        )

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return the moments of each row's site."""
        n = np.maximum(1, total[N_EXAMPLES])[:, None]
        mean = total[FIRST] / n
        variance = np.maximum(0, total[SECOND] / n - mean**2)
        return {
            SITES: shared[SITES],
            N_EXAMPLES: total[N_EXAMPLES],
            MEAN: mean,
            VARIANCE: variance,
        }


def pooled_consensus(parameters: Weights, n_features: int, n_groups: int) -> Consensus:
    """Return what ``PooledMoments`` fitted, as it was received.

    Raises:
        HarmonizeError: It is not that of the plan (H21).
    """
    shapes = {
        N_EXAMPLES: (n_groups,),
        MEAN: (n_groups, n_features),
        COVARIANCE: (n_groups, n_features, n_features),
    }
    _refuse_other(parameters, shapes)
    return Consensus(*(parameters[name] for name in (N_EXAMPLES, MEAN, COVARIANCE)))


def site_moments(parameters: Weights, n_features: int) -> SiteMoments:
    """Return what ``MomentsBySite`` fitted, as it was received.

    Raises:
        HarmonizeError: It is not that of the plan (H21).
    """
    n_sites = len(parameters.get(SITES, ()))
    rows = (n_sites, n_features)
    shapes = {SITES: (n_sites,), N_EXAMPLES: (n_sites,), MEAN: rows, VARIANCE: rows}
    _refuse_other(parameters, shapes)
    std = parameters[VARIANCE].sqrt()
    return SiteMoments(parameters[N_EXAMPLES], parameters[MEAN], std)


def _refuse_other(parameters: Weights, want: dict[str, tuple[int, ...]]) -> None:
    found = {name: tuple(value.shape) for name, value in parameters.items()}
    if found != want:
        fix = "run the same version of fedmri as the server"
        what = "parameters of the embeddings' harmonization"
        raise HarmonizeError("H21", what, found=f"{found}", want=f"{want}", fix=fix)


def _held(data: Held, n_features: int) -> Embeddings:
    if isinstance(data, Embeddings):
        return data
    nothing = torch.zeros(0, n_features, dtype=torch.float64)
    return Embeddings("", nothing, torch.zeros(0, dtype=torch.int64))


def _arrays(values: Weights) -> Arrays:
    return {name: value.numpy() for name, value in values.items()}


def _tensors(arrays: Arrays) -> Weights:
    return {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}

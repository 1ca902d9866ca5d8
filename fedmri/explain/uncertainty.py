"""How sure a model is: passes with dropout, several models, and whether doubt finds errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from fedmri.training.computing.device import seeded


@dataclass(frozen=True)
class Doubt:
    """What several passes, or several models, say of the same examples.

    Attributes:
        mean: Mean probabilities ``(n, K, *shape)``, or values ``(n, 1)``.
        total: Entropy of the mean in nats, or variance of values, ``(n, *shape)``.
        between: What the members disagree on: mutual information, or the same variance.
        n_members: How many there were; with one, ``between`` is 0 (of values ``total`` too).
    """

    mean: torch.Tensor
    total: torch.Tensor
    between: torch.Tensor
    n_members: int


MOST_OFF = 1e-3
"""Of the sum of shares from 1, by rounding."""


def doubt_of(members: Iterable[torch.Tensor]) -> Doubt:
    """Return the doubt of members' predictions, each ``(n, K, *shape)``; one is held at a time.

    Where the K numbers are shares that sum to 1, doubt is an entropy; else it is a variance.

    Source:
        Gal and Ghahramani 2016, arXiv:1506.02142 (dropout); Lakshminarayanan, Pritzel and Blundell
        2017, arXiv:1612.01474 (ensembles); Houlsby et al. 2011, arXiv:1112.5745 (information).
    """
    n_members, total, second, is_shares = 0, torch.zeros(()), torch.zeros(()), False
    for own in members:
        n_members += 1
        total = total + own
        is_shares = own.shape[1] > 1 and bool(((own.sum(1) - 1).abs() < MOST_OFF).all())
        second = second + (entropy(own, 1) if is_shares else own.square())
    mean = total / n_members
    if not is_shares:
        variance = (second / n_members - mean.square()).clamp(min=0).mean(1)
        return Doubt(mean, variance, variance, n_members)
    whole = entropy(mean, 1)
    return Doubt(mean, whole, (whole - second / n_members).clamp(min=0), n_members)


def entropy(shares: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the entropy of probabilities along a dimension, in nats."""
    found: torch.Tensor = -torch.special.xlogy(shares, shares).sum(dim)
    return found


def n_dropouts(network: nn.Module) -> int:
    """Return how many layers leave values out."""
    return sum(isinstance(m, _DropoutNd) and m.p > 0 for m in network.modules())


@contextmanager
def dropping(network: nn.Module) -> Iterator[None]:
    """Leave values out as in training; norm layers stay as they are in evaluation."""
    layers = [m for m in network.modules() if isinstance(m, _DropoutNd)]
    before = [layer.training for layer in layers]
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer, was_training in zip(layers, before, strict=True):
            layer.train(was_training)


def passes(
    network: nn.Module, predict: Callable[[nn.Module], torch.Tensor], n_samples: int, seed: int
) -> Iterator[torch.Tensor]:
    """Yield predictions with other values left out each time; the seed decides which."""
    device = next(network.parameters()).device
    with dropping(network), torch.no_grad():
        for number in range(n_samples):
            with seeded(seed + number, device):
                yield predict(network)


@dataclass(frozen=True)
class Selection:
    """Whether doubt finds errors: the mean risk of those that the model is surest of.

    Attributes:
        coverage: Share of patients that are answered, ascending to 1.
        risk: Mean risk of these.
        area: Mean of ``risk`` over coverages (AURC); lower is better.
        by_chance: The same for doubt that knows nothing: the mean risk.
        best: The same for doubt that knows every error.

    Source:
        Geifman and El-Yaniv 2017, arXiv:1705.08500; Geifman, Uziel and El-Yaniv 2019,
        arXiv:1805.08206 (area).
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float
    by_chance: float
    best: float


def selection(doubts: Sequence[float], risks: Sequence[float]) -> Selection | None:
    """Return the curve of risk over coverage; None for fewer than two patients.

    Patients of equal doubt count as if each had their mean risk: no order between them is known.

    Args:
        doubts: Of each patient.
        risks: Of each patient: 1 for a wrong class, an absolute error, or 1 - Dice.
    """
    pairs = [(d, r) for d, r in zip(doubts, risks, strict=True) if math.isfinite(d + r)]
    if len(pairs) < 2:
        return None
    doubt, risk = np.array(pairs).T
    _, group = np.unique(doubt, return_inverse=True)
    shared = (np.bincount(group, risk) / np.bincount(group))[group]
    n = np.arange(1, len(risk) + 1)
    curve = np.cumsum(shared[np.argsort(doubt, kind="stable")]) / n
    best = np.cumsum(np.sort(risk)) / n
    coverage = n / len(risk)
    return Selection(
        tuple(coverage.tolist()),
        tuple(curve.tolist()),
        float(curve.mean()),
        float(risk.mean()),
        float(best.mean()),
    )

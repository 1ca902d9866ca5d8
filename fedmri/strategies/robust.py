"""Rules that a few bad sites cannot move far; all are off by default.

Yin, Chen, Ramchandran and Bartlett 2018, arXiv:1803.01498 (median, trimmed mean). Pillutla, Kakade
and Harchaoui 2022, arXiv:1912.13445 (geometric median). Blanchard, El Mhamdi, Guerraoui and
Stainer 2017, Machine learning with adversaries (Krum). Sun, Kairouz, Suresh and McMahan 2019,
arXiv:1911.07963 (norm bound).

They cost something where nobody is bad: hospitals differ, and what differs is taken for an
outlier. The weights of sites do not enter the median, the trimmed mean and Krum. All but the norm
bound need the updates of all sites at once: they wait on the disk, so memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from fedmri.errors import RoundError
from fedmri.round import ServerState, Update, Weights
from fedmri.strategies.fedavg import FedAvg, step_to
from fedmri.strategies.mean import WEIGHTINGS, in_site_order, nobody_trained
from fedmri.strategies.spool import Spool

MAX_ITERATIONS, TOLERANCE = 1000, 1e-10


class _OfAll(FedAvg):
    """What rules share that see all updates of a round at once."""

    @property
    def n_least(self) -> int:
        """Sites that the rule says anything of."""
        return 1

    def turns(self, sites: tuple[str, ...], round_index: int) -> tuple[tuple[str, ...], ...]:
        """Return one turn; raise RoundError R09 before too few sites train for nothing."""
        self._require(len(sites))
        return super().turns(sites, round_index)

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the combined floating entries to ``out``."""
        raise NotImplementedError

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        with Spool(state.model, state.layout.parameters) as spool:
            sites = []
            for update in in_site_order(updates):
                spool.add(update, WEIGHTINGS[self.weighting](update))
                sites.append(update.site)
                del update
            if not spool.weights:
                raise nobody_trained(sites)
            self._require(len(spool.weights))
            self.combine(spool, out)
        step_to(out, state, self.server_lr)
        return replace(state, model=out)

    def _require(self, n_sites: int) -> None:
        if n_sites < self.n_least:
            fix = "set strategy=fedavg; fewer strategy.n_outliers need fewer sites, krum always 5"
            what, want = f"sites for {type(self).__name__}", f"{self.n_least} or more"
            raise RoundError("R09", what, found=f"{n_sites}", want=want, fix=fix)


@dataclass(frozen=True)
class Median(_OfAll):
    """Coordinate-wise median of the sites' models; of an even number the mean of the middle two."""

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the medians."""
        spool.by_coordinate(lambda values: _middle(values, (len(values) - 1) // 2), out)


@dataclass(frozen=True)
class TrimmedMean(_OfAll):
    """Coordinate-wise mean without the ``n_outliers`` largest and smallest values.

    Args:
        n_outliers: Bad sites that are put up with; 0 is the unweighted mean.
    """

    n_outliers: int = 1

    @property
    def n_least(self) -> int:
        """Sites of which one is left."""
        return 2 * self.n_outliers + 1

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the trimmed means."""
        spool.by_coordinate(lambda values: _middle(values, self.n_outliers), out)


@dataclass(frozen=True)
class GeometricMedian(_OfAll):
    """The point whose weighted sum of distances to the sites' models is least, by Weiszfeld."""

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the point, a convex combination of the sites' models."""
        weight = torch.tensor(spool.weights, dtype=torch.float64)
        spool.combination(geometric_median(spool.gram(), weight), out)


@dataclass(frozen=True)
class Krum(_OfAll):
    """The one model that is nearest to its ``n - n_outliers - 2`` nearest others.

    Args:
        n_outliers: Bad sites that are put up with; it needs ``2 * n_outliers + 3`` sites, and five
            at least: of fewer, one hospital's model would be everybody's.
    """

    n_outliers: int = 1

    @property
    def n_least(self) -> int:
        """Sites that it needs."""
        return max(5, 2 * self.n_outliers + 3)

    def combine(self, spool: Spool, out: Weights) -> None:
        """Write the chosen site's model."""
        n_sites = len(spool.weights)
        gram = spool.gram()
        squares = gram.diagonal()[:, None] + gram.diagonal()[None] - 2 * gram
        nearest = squares.sort(dim=1).values[:, 1 : n_sites - self.n_outliers - 1]
        chosen = torch.zeros(n_sites, dtype=torch.float64)
        chosen[nearest.sum(dim=1).argmin()] = 1.0
        spool.combination(chosen, out)


@dataclass(frozen=True)
class NormBound(FedAvg):
    """FedAvg of changes that are scaled down to a norm of ``max_change`` at most.

    Args:
        max_change: Largest L2 norm of the change of a site's parameters together.
    """

    max_change: float = 1.0

    def aggregate(self, state: ServerState, updates: Iterable[Update], out: Weights) -> ServerState:
        """Return the state with the next model in ``out``; see ``Strategy.aggregate``."""
        names = state.layout.parameters

        def bounded() -> Iterator[Update]:
            for update in updates:
                changes = {
                    name: value - state.model[name]
                    for name, value in sorted(update.weights.items())
                    if name in names
                }
                norms = [torch.linalg.vector_norm(change) for change in changes.values()]
                norm = float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
                near: Weights = {}
                if norm > self.max_change:
                    scale = self.max_change / norm
                    near = {n: state.model[n] + scale * change for n, change in changes.items()}
                yield replace(update, weights={**update.weights, **near})
                del update, changes, near

        return super().aggregate(state, bounded(), out)


def geometric_median(gram: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the weights of the points in their geometric median.

    Args:
        gram: Inner products of the points, shape ``(K, K)``, float64. Distances from any
            combination of the points follow from it, so the points are not needed.
        weight: Weight of each point's distance, shape ``(K,)``.
    """
    at = weight / weight.sum()
    from_mean = torch.eye(len(at), dtype=gram.dtype) - at  # what all points share is no distance
    gram = from_mean @ gram @ from_mean.T
    tiny = 1e-12 * max(float(gram.diagonal().abs().max()), 1e-300)
    for _ in range(MAX_ITERATIONS):
        squares = gram.diagonal() - 2 * gram @ at + at @ gram @ at
        pulls = weight / squares.clamp_min(tiny).sqrt()
        new = pulls / pulls.sum()
        is_there = bool((new - at).abs().max() < TOLERANCE)
        at = new
        if is_there:
            break
    return at


def _middle(values: torch.Tensor, n_cut: int) -> torch.Tensor:
    """Return the mean over the first axis without the extremes."""
    ordered = values.sort(dim=0).values
    return ordered[n_cut : len(ordered) - n_cut].mean(dim=0)
